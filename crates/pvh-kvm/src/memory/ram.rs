//! Guest RAM in this process's address space.

use std::{fmt, io, ops::Range, sync::Arc};

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::{FileRange, FrameError, GuestMemory, MapError, MemoryError, VmMemory, WordOp};
use vm_memory::{GuestRegionMmap, MmapRegion};

use super::{
    frames::{self, FrameTable},
    map_file::{self, FilePages},
    mapping::map_range,
    ranges::{self, RamError},
};
use crate::host_cpu;

mod access;

/// The RAM of a guest: anonymous memory of which only touched pages cost anything.
///
/// Nothing is reserved up front, so that a guest may have more memory than the host; when the host
/// runs out, the pages cannot be had at the time they are touched, and the kernel ends the process.
///
/// Beside RAM it can have other pages: those it was made with, and up to
/// [`MAX_ADDED_FRAMES`](crate::MAX_ADDED_FRAMES) that were added as [`Frames`](pvh_memory::Frames). They are memory like RAM to whoever reads
/// and writes, but no RAM range.
///
/// It is shared between the vCPUs, the loader and the devices as an `Arc<GuestRam>`.
pub struct GuestRam {
    /// RAM first, then the other pages.
    regions: Vec<(GuestRange, Arc<GuestRegionMmap>)>,
    ram_regions: usize,
    memory: VmMemory<Arc<GuestRegionMmap>>,
    file_pages: FilePages,
    frames: FrameTable,
}

impl GuestRam {
    /// Maps one RAM range of `size_bytes` from address 0 on.
    ///
    /// RAM of more than 3 GiB needs a hole for interrupt controllers: `pvh_layout` computes the ranges, and
    /// [`GuestRam::with_ranges`] maps them.
    ///
    /// # Errors
    ///
    /// As [`GuestRam::with_ranges`], for the width of this host's physical addresses (CPUID 0x8000_0008).
    pub fn new(size_bytes: u64) -> Result<Self, RamError> {
        let ram = GuestRange::new(Gpa(0), size_bytes);
        Self::with_ranges(&[ram], &[], host_cpu::address_bits())
    }

    /// Maps RAM ranges, and pages beside RAM, for a guest whose physical addresses have `address_bits` bits.
    ///
    /// Both lists are in ascending order. The guest reads and writes `pages` like RAM, but
    /// [`GuestRam::ram_ranges`] does not list them: on the Xen platform they hold ACPI tables and rings. Widths above
    /// the architecture's 52 count as 52.
    ///
    /// # Errors
    ///
    /// [`RamError::Empty`] without a RAM range; [`RamError::NotWholePages`], [`RamError::Order`],
    /// [`RamError::Reserved`] and [`RamError::TooHigh`] for a range that cannot be mapped; [`RamError::Host`] when the
    /// host gives no address space.
    pub fn with_ranges(
        ram: &[GuestRange],
        pages: &[GuestRange],
        address_bits: u8,
    ) -> Result<Self, RamError> {
        ranges::check(ram, pages, address_bits)?;
        let mut ranges = ram.to_vec();
        let ram_regions = ranges.len();
        ranges.extend_from_slice(pages);
        let regions = ranges
            .into_iter()
            .map(|range| Ok((range, Arc::new(map_range(range)?))));
        let regions = regions.collect::<Result<Vec<_>, RamError>>()?;
        let memory = VmMemory::new(regions.iter().map(|(_, region)| Arc::clone(region)));
        Ok(Self {
            regions,
            ram_regions,
            memory,
            file_pages: FilePages::default(),
            frames: FrameTable::new(address_bits)?,
        })
    }

    /// Returns the RAM ranges in ascending order.
    #[must_use]
    pub fn ram_ranges(&self) -> Vec<GuestRange> {
        let regions = self.regions.iter().take(self.ram_regions);
        regions.map(|(range, _)| *range).collect()
    }

    /// Returns the size of all RAM in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let ranges = self.ram_ranges().into_iter();
        let lengths = ranges.map(|range| range.len_bytes);
        lengths.fold(0, u64::saturating_add)
    }

    /// The frames that differ from what was mapped at the beginning.
    pub(crate) const fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// Returns each range, of RAM and of pages in the hole, with the address it is mapped at in this process.
    pub(crate) fn host_ranges(&self) -> impl Iterator<Item = (GuestRange, u64)> {
        self.regions
            .iter()
            .map(|(range, region)| (*range, region.as_ptr().addr() as u64))
    }

    /// Asks the host to back this memory by huge pages where it can (transparent huge pages).
    ///
    /// The first touch of 2 MiB costs their zeroing, and later ones nothing: a guest that uses most of its memory gains, one that
    /// uses little of it pays in time and memory.
    ///
    /// # Errors
    ///
    /// When the host's kernel has no such pages.
    pub fn prefer_huge_pages(&self) -> io::Result<()> {
        let mut regions = self.regions.iter();
        regions.try_for_each(|(_, region)| map_file::prefer_huge_pages(region))
    }

    /// Has whole pages read as zeros again, without touching them; tells whether it could.
    ///
    /// The pages must lie in one range of RAM.
    fn zero_pages(&self, at: Gpa, len_bytes: u64) -> bool {
        let Some((mapping, offset)) = self.locate(at, len_bytes) else {
            return false;
        };
        let Ok(len) = usize::try_from(len_bytes) else {
            return false;
        };
        if self.file_pages.overlap(at, len_bytes) {
            map_file::map_zero_pages(mapping, offset, len);
            return true;
        }
        map_file::discard_pages(mapping, offset, len).is_ok()
    }

    /// Returns the ranges that files were mapped over, address and length.
    pub(crate) fn mapped_files(&self) -> Vec<(Gpa, u64)> {
        self.file_pages.ranges()
    }

    /// Returns where a range of RAM is mapped in this process.
    pub(crate) fn host_address(&self, at: Gpa, len_bytes: u64) -> Option<u64> {
        let (mapping, offset) = self.locate(at, len_bytes)?;
        let start = mapping.as_ptr().wrapping_add(offset);
        Some(start.addr() as u64)
    }

    /// Gives this process pages of its own in a range of RAM, as a write to each would.
    pub(crate) fn copy_pages(&self, at: Gpa, len_bytes: u64) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (mapping, offset) = self.locate(at, len_bytes).ok_or_else(invalid)?;
        let len = usize::try_from(len_bytes).map_err(|_| invalid())?;
        map_file::copy_pages(mapping, offset, len)
    }

    /// The memory of the beginning, whatever was added or removed since.
    pub(crate) const fn base(&self) -> &VmMemory<Arc<GuestRegionMmap>> {
        &self.memory
    }

    /// Has frames of the beginning read as zeros, and gives them back to the host where that is possible: not where a
    /// file is mapped, for that could take more mappings than a process can have.
    pub(crate) fn zero_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let failed = FrameError::Backend { gfn: gfns.start };
        for (range, region) in &self.regions {
            let first = range.start.0 / PAGE_SIZE;
            let end = first.saturating_add(range.len_bytes / PAGE_SIZE);
            let (from, to) = (gfns.start.max(first), gfns.end.min(end));
            let count = to.saturating_sub(from);
            let (at, len_bytes) = (
                Gpa(from.saturating_mul(PAGE_SIZE)),
                count.saturating_mul(PAGE_SIZE),
            );
            if count == 0 {
                continue;
            }
            if self.file_pages.overlap(at, len_bytes) {
                self.memory.zero(at, len_bytes).map_err(|_| failed)?;
                continue;
            }
            let offset = at.0.saturating_sub(range.start.0);
            let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len_bytes))
            else {
                return Err(failed);
            };
            map_file::discard_pages(region, offset, len).map_err(|_| failed)?;
        }
        Ok(())
    }

    /// Zeroes a range the long way, for what is no whole pages.
    fn write_zeros(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let Some(changes) = self.frames.changes() else {
            return self.memory.zero(at, len_bytes);
        };
        let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        for (memory, here, place) in self.pieces(&changes, at, len)? {
            memory.zero(here, place.len() as u64)?;
        }
        Ok(())
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

impl GuestMemory for GuestRam {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        let Some(changes) = self.frames.changes() else {
            return self.memory.is_ram(at, len_bytes);
        };
        self.has_pages(&changes, at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let Some(changes) = self.frames.changes() else {
            return self.memory.read(at, buf);
        };
        for (memory, here, place) in self.pieces(&changes, at, buf.len())? {
            let buf = buf.get_mut(place).unwrap_or_default();
            let read = memory.read(here, buf);
            read.map_err(|error| frames::error_at(error, at))?;
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let Some(changes) = self.frames.changes() else {
            return self.memory.write(at, bytes);
        };
        for (memory, here, place) in self.pieces(&changes, at, bytes.len())? {
            let bytes = bytes.get(place).unwrap_or_default();
            let written = memory.write(here, bytes);
            written.map_err(|error| frames::error_at(error, at))?;
        }
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let Some(changes) = self.frames.changes() else {
            return self.memory.atomic_u32(at, op);
        };
        let (memory, here) = self.word(&changes, at, 4)?;
        let before = memory.atomic_u32(here, op);
        before.map_err(|error| frames::error_at(error, at))
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let Some(changes) = self.frames.changes() else {
            return self.memory.atomic_u64(at, op);
        };
        let (memory, here) = self.word(&changes, at, 8)?;
        let before = memory.atomic_u64(here, op);
        before.map_err(|error| frames::error_at(error, at))
    }

    /// Whole pages are given back to the host: they cost nothing until they are touched.
    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let not_ram = MemoryError::NotRam { at, len_bytes };
        if !self.is_ram(at, len_bytes) {
            return Err(not_ram);
        }
        let end = at.checked_add(len_bytes).ok_or(not_ram)?;
        let last = Gpa(end.0 & !(PAGE_SIZE - 1));
        let pages = at
            .checked_align_up(PAGE_SIZE)
            .and_then(|first| Some((first, last.checked_offset_from(first)?)));
        match pages {
            Some((first, pages_bytes))
                if pages_bytes > 0 && self.zero_pages(first, pages_bytes) =>
            {
                let before = first.checked_offset_from(at).unwrap_or(0);
                self.write_zeros(at, before)?;
                let after = end.checked_offset_from(last).unwrap_or(0);
                self.write_zeros(last, after)
            }
            _ => self.write_zeros(at, len_bytes),
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
        map_file::map_over(mapping, offset, range).map_err(|source| MapError::Host { at, source })
    }
}

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam")
            .field("ranges", &self.ram_ranges())
            .finish_non_exhaustive()
    }
}
