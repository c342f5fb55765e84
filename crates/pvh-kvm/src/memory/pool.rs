//! The pages that back frames which the guest adds outside RAM.

use std::{io, sync::Arc};

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::VmMemory;
use vm_memory::GuestRegionMmap;

use super::{map_file, mapping::map_range, ranges::RamError};

/// Pages for frames outside RAM. A page that nobody has touched uses no host memory.
pub(crate) struct Pool {
    pages: u32,
    region: Arc<GuestRegionMmap>,
    memory: VmMemory<Arc<GuestRegionMmap>>,
}

impl Pool {
    pub(super) fn new(pages: u32) -> Result<Self, RamError> {
        let len_bytes = u64::from(pages).saturating_mul(PAGE_SIZE);
        let region = map_range(GuestRange::new(Gpa(0), len_bytes))?;
        let region = Arc::new(region);
        Ok(Self {
            pages,
            memory: VmMemory::new([Arc::clone(&region)]),
            region,
        })
    }

    /// Returns the memory of all pages: page `n` starts at address `n * 4096`.
    pub(crate) const fn memory(&self) -> &VmMemory<Arc<GuestRegionMmap>> {
        &self.memory
    }

    /// Returns the address of a page in this process; `None` if the pool has no such page.
    pub(crate) fn host_address(&self, page: u32) -> Option<u64> {
        let start = self.region.as_ptr().addr() as u64;
        let offset = u64::from(page).checked_mul(PAGE_SIZE)?;
        let address = start.checked_add(offset)?;
        (page < self.pages).then_some(address)
    }

    /// Returns the memory of a page to the host. The page reads as zeros afterwards.
    pub(super) fn clear(&self, page: u32) -> io::Result<()> {
        let page_bytes = usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX);
        let offset = (page as usize).saturating_mul(page_bytes);
        map_file::discard_pages(&self.region, offset, page_bytes)
    }
}
