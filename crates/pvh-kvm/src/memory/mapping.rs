//! Maps anonymous memory into this process for a guest.

use std::io;

use pvh_abi::GuestRange;
use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion, mmap::MmapRegionError};

use super::ranges::RamError;

/// Maps one range. The mapping reserves neither memory nor swap.
pub(crate) fn map_range(range: GuestRange) -> Result<GuestRegionMmap, RamError> {
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
