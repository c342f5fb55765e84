//! Guest RAM in this process's address space.

use std::{
    fmt, io,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use pvh_abi::Gpa;
use pvh_memory::{FileRange, GuestMemory, MapError, MemoryError, WordOp};
use vm_memory::{MmapRegion, VolatileMemory, mmap::MmapRegionError};

use crate::{RamError, RamRange, host_cpu, map_file, ram_layout};

/// The RAM of a guest: anonymous memory of which only touched pages cost anything.
///
/// Nothing is reserved up front, so that a guest may have more memory than the host; when the host
/// runs out, the pages cannot be had at the time they are touched, and the kernel ends the process.
///
/// It is shared between the vCPUs, the loader and the devices as an `Arc<GuestRam>`.
pub struct GuestRam {
    regions: Vec<Region>,
}

/// One RAM range and the mapping behind it.
struct Region {
    range: RamRange,
    mapping: MmapRegion,
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
        let regions = ranges.into_iter().map(Region::new);
        Ok(Self {
            regions: regions.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the RAM ranges in ascending order: one, or two where RAM goes on above 4 GiB.
    #[must_use]
    pub fn ram_ranges(&self) -> Vec<RamRange> {
        self.regions.iter().map(|region| region.range).collect()
    }

    /// Returns the size of all RAM in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.regions
            .iter()
            .fold(0, |sum, region| region.range.len_bytes.saturating_add(sum))
    }

    /// Returns each range with the address it is mapped at in this process.
    pub(crate) fn host_ranges(&self) -> impl Iterator<Item = (RamRange, u64)> {
        self.regions
            .iter()
            .map(|region| (region.range, region.mapping.as_ptr().addr() as u64))
    }

    /// Returns the mapping that holds the whole range and the offset of its first byte there.
    fn locate(&self, at: Gpa, len_bytes: u64) -> Option<(&MmapRegion, usize)> {
        self.regions.iter().find_map(|region| {
            let offset = at.checked_offset_from(region.range.start)?;
            let end = offset.checked_add(len_bytes)?;
            if end > region.range.len_bytes {
                return None;
            }
            Some((&region.mapping, usize::try_from(offset).ok()?))
        })
    }

    fn locate_word(&self, at: Gpa, size_bytes: u64) -> Result<(&MmapRegion, usize), MemoryError> {
        if !at.is_aligned(size_bytes) {
            return Err(MemoryError::Misaligned { at, size_bytes });
        }
        self.locate(at, size_bytes).ok_or(MemoryError::NotRam {
            at,
            len_bytes: size_bytes,
        })
    }
}

impl Region {
    fn new(range: RamRange) -> Result<Self, RamError> {
        let refused = |source| RamError::Host {
            len_bytes: range.len_bytes,
            source,
        };
        let len = usize::try_from(range.len_bytes)
            .map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
        let mapping = MmapRegion::build(
            None,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        let mapping = mapping.map_err(|error| match error {
            MmapRegionError::Mmap(source) => refused(source),
            _ => refused(io::ErrorKind::InvalidInput.into()),
        })?;
        Ok(Self { range, mapping })
    }
}

impl GuestMemory for GuestRam {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        len_bytes == 0 || self.locate(at, len_bytes).is_some()
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        if buf.is_empty() {
            return Ok(());
        }
        let not_ram = MemoryError::NotRam {
            at,
            len_bytes: buf.len() as u64,
        };
        let (mapping, offset) = self.locate(at, buf.len() as u64).ok_or(not_ram)?;
        let slice = mapping.get_slice(offset, buf.len());
        slice.map_err(|_| not_ram)?.copy_to(buf);
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let not_ram = MemoryError::NotRam {
            at,
            len_bytes: bytes.len() as u64,
        };
        let (mapping, offset) = self.locate(at, bytes.len() as u64).ok_or(not_ram)?;
        let slice = mapping.get_slice(offset, bytes.len());
        slice.map_err(|_| not_ram)?.copy_from(bytes);
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let (mapping, offset) = self.locate_word(at, 4)?;
        let word = mapping.get_atomic_ref::<AtomicU32>(offset);
        let word = word.map_err(|_| MemoryError::Backend { at })?;
        Ok(match op {
            WordOp::Load => word.load(SeqCst),
            WordOp::Swap(new) => word.swap(new, SeqCst),
            WordOp::And(bits) => word.fetch_and(bits, SeqCst),
            WordOp::Or(bits) => word.fetch_or(bits, SeqCst),
            WordOp::CompareExchange { expected, new } => word
                .compare_exchange(expected, new, SeqCst, SeqCst)
                .unwrap_or_else(|previous| previous),
            _ => return Err(MemoryError::Backend { at }),
        })
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let (mapping, offset) = self.locate_word(at, 8)?;
        let word = mapping.get_atomic_ref::<AtomicU64>(offset);
        let word = word.map_err(|_| MemoryError::Backend { at })?;
        Ok(match op {
            WordOp::Load => word.load(SeqCst),
            WordOp::Swap(new) => word.swap(new, SeqCst),
            WordOp::And(bits) => word.fetch_and(bits, SeqCst),
            WordOp::Or(bits) => word.fetch_or(bits, SeqCst),
            WordOp::CompareExchange { expected, new } => word
                .compare_exchange(expected, new, SeqCst, SeqCst)
                .unwrap_or_else(|previous| previous),
            _ => return Err(MemoryError::Backend { at }),
        })
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
