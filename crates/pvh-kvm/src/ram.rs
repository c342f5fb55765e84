//! Guest RAM in this process's address space.

use std::{fmt, io, sync::Arc};

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{FileRange, GuestMemory, MapError, MemoryError, VmMemory, WordOp};
use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion, mmap::MmapRegionError};

use crate::{
    RamError, RamRange, host_cpu,
    map_file::{self, FilePages},
    ram_layout,
};

/// The RAM of a guest: anonymous memory of which only touched pages cost anything.
///
/// Nothing is reserved up front, so that a guest may have more memory than the host; when the host
/// runs out, the pages cannot be had at the time they are touched, and the kernel ends the process.
///
/// It is shared between the vCPUs, the loader and the devices as an `Arc<GuestRam>`.
pub struct GuestRam {
    regions: Vec<(RamRange, Arc<GuestRegionMmap>)>,
    memory: VmMemory<Arc<GuestRegionMmap>>,
    file_pages: FilePages,
}

impl GuestRam {
    /// Maps RAM of `size_bytes`, laid out by [`ram_layout`] for the width of this host's physical
    /// addresses (CPUID 0x8000_0008).
    ///
    /// # Errors
    ///
    /// Those of [`ram_layout`], and [`RamError::Host`] when the host gives no address space.
    pub fn new(size_bytes: u64) -> Result<Self, RamError> {
        Self::with_address_bits(size_bytes, host_cpu::address_bits())
    }

    /// Maps RAM of `size_bytes` for a guest whose physical addresses have `address_bits` bits.
    ///
    /// # Errors
    ///
    /// As [`GuestRam::new`].
    pub fn with_address_bits(size_bytes: u64, address_bits: u8) -> Result<Self, RamError> {
        let ranges = ram_layout(size_bytes, address_bits)?;
        let regions = ranges
            .into_iter()
            .map(|range| Ok((range, Arc::new(map_range(range)?))));
        let regions = regions.collect::<Result<Vec<_>, RamError>>()?;
        let memory = VmMemory::new(regions.iter().map(|(_, region)| Arc::clone(region)));
        Ok(Self {
            regions,
            memory,
            file_pages: FilePages::default(),
        })
    }

    /// Returns the RAM ranges in ascending order: one, or two where RAM goes on above 4 GiB.
    #[must_use]
    pub fn ram_ranges(&self) -> Vec<RamRange> {
        self.regions.iter().map(|(range, _)| *range).collect()
    }

    /// Returns the size of all RAM in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let lengths = self.regions.iter().map(|(range, _)| range.len_bytes);
        lengths.fold(0, u64::saturating_add)
    }

    /// Returns each range with the address it is mapped at in this process.
    pub(crate) fn host_ranges(&self) -> impl Iterator<Item = (RamRange, u64)> {
        self.regions
            .iter()
            .map(|(range, region)| (*range, region.as_ptr().addr() as u64))
    }

    /// Has whole pages read as zeros again, without touching them; tells whether it could.
    ///
    /// The pages must lie in one range of RAM.
    pub(crate) fn renew(&self, at: Gpa, len_bytes: u64) -> bool {
        let Some((mapping, offset)) = self.locate(at, len_bytes) else {
            return false;
        };
        let Ok(len) = usize::try_from(len_bytes) else {
            return false;
        };
        if self.file_pages.meet(at, len_bytes) {
            map_file::give_back(mapping, offset, len);
            return true;
        }
        map_file::drop_pages(mapping, offset, len).is_ok()
    }

    /// Returns the mapping that holds the whole range and the offset of its first byte there.
    fn locate(&self, at: Gpa, len_bytes: u64) -> Option<(&MmapRegion, usize)> {
        self.regions.iter().find_map(|(range, region)| {
            let offset = at.checked_offset_from(range.start)?;
            let end = offset.checked_add(len_bytes)?;
            if end > range.len_bytes {
                return None;
            }
            Some((&***region, usize::try_from(offset).ok()?))
        })
    }
}

/// Maps one range; the mapping reserves neither memory nor swap.
fn map_range(range: RamRange) -> Result<GuestRegionMmap, RamError> {
    let refused = |source| RamError::Host {
        len_bytes: range.len_bytes,
        source,
    };
    let invalid = || refused(io::ErrorKind::InvalidInput.into());
    let len = usize::try_from(range.len_bytes).map_err(|_| invalid())?;
    let mapping = MmapRegion::build(
        None,
        len,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    let mapping = mapping.map_err(|error| match error {
        MmapRegionError::Mmap(source) => refused(source),
        _ => invalid(),
    })?;
    GuestRegionMmap::new(mapping, GuestAddress(range.start.0)).ok_or_else(invalid)
}

impl GuestMemory for GuestRam {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.memory.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.memory.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.memory.atomic_u64(at, op)
    }

    /// Whole pages are given back to the host: they cost nothing until they are touched.
    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let not_ram = MemoryError::NotRam { at, len_bytes };
        if !self.memory.is_ram(at, len_bytes) {
            return Err(not_ram);
        }
        let end = at.checked_add(len_bytes).ok_or(not_ram)?;
        let last = Gpa(end.0 & !(PAGE_SIZE - 1));
        let pages = at
            .checked_align_up(PAGE_SIZE)
            .and_then(|first| Some((first, last.checked_offset_from(first)?)));
        match pages {
            Some((first, pages_bytes)) if pages_bytes > 0 && self.renew(first, pages_bytes) => {
                let before = first.checked_offset_from(at).unwrap_or(0);
                self.memory.zero(at, before)?;
                let after = end.checked_offset_from(last).unwrap_or(0);
                self.memory.zero(last, after)
            }
            _ => self.memory.zero(at, len_bytes),
        }
    }

    /// Maps the range by `mmap(MAP_FIXED | MAP_PRIVATE)` over the RAM there.
    ///
    /// The range must lie within a regular file, up to the end of its last page. Should the file be
    /// cut short later, touching the lost pages raises SIGBUS: the caller maps only files it trusts not
    /// to shrink.
    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        map_file::check(at, range)?;
        if range.len_bytes == 0 {
            return Ok(());
        }
        let (mapping, offset) = self.locate(at, range.len_bytes).ok_or(MapError::NotRam {
            at,
            len_bytes: range.len_bytes,
        })?;
        self.file_pages.add(at, range.len_bytes);
        map_file::over(mapping, offset, range).map_err(|source| MapError::Host { at, source })
    }
}

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam")
            .field("ranges", &self.ram_ranges())
            .finish_non_exhaustive()
    }
}
