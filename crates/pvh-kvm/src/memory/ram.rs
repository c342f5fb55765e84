//! Guest RAM in the address space of this process.

use std::{fmt, io, ops::Range, sync::Arc};

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::{
    FileRange, FillError, FrameError, GuestMemory, MapError, MemoryError, VmMemory, WordOp,
};
use vm_memory::{GuestRegionMmap, MmapRegion};

use super::{
    budget::{MappingBudget, Purpose},
    frames::{self, FrameTable},
    gate::Gate,
    map_file::{self, FilePages, Refused},
    mapping::map_range,
    ranges::{self, RamError},
};
use crate::host_cpu;

mod access;
mod file_io;

pub use file_io::TransferError;

/// The RAM of a guest: anonymous memory that uses host memory only for pages that were touched.
///
/// No memory is reserved, so a guest may have more memory than the host. When the host runs out of
/// memory, touching a new page fails, and the kernel ends the process.
///
/// A guest can also have pages outside RAM: those given at creation, and up to
/// [`MAX_ADDED_FRAMES`](crate::MAX_ADDED_FRAMES) added through [`Frames`](pvh_memory::Frames). They
/// are read and written like RAM, but are not part of a RAM range.
///
/// The vCPUs, the loader and the devices share it as an `Arc<GuestRam>`.
pub struct GuestRam {
    /// First the RAM ranges, then the other pages.
    regions: Vec<(GuestRange, Arc<GuestRegionMmap>)>,
    ram_regions: usize,
    memory: VmMemory<Arc<GuestRegionMmap>>,
    file_pages: FilePages,
    budget: MappingBudget,
    frames: FrameTable,
    gate: Gate,
}

impl GuestRam {
    /// Maps one RAM range of `size_bytes` from address 0 on.
    ///
    /// RAM of more than 3 GiB needs a hole for interrupt controllers: `pvh_layout` computes the
    /// ranges, and [`GuestRam::with_ranges`] maps them.
    ///
    /// # Errors
    ///
    /// As [`GuestRam::with_ranges`], for the width of this host's physical addresses (CPUID
    /// 0x8000_0008).
    pub fn new(size_bytes: u64) -> Result<Self, RamError> {
        let ram = GuestRange::new(Gpa(0), size_bytes);
        Self::with_ranges(&[ram], &[], host_cpu::address_bits())
    }

    /// Maps RAM ranges, and pages beside RAM, for a guest whose physical addresses have
    /// `address_bits` bits. Widths above the architecture's 52 bits count as 52.
    ///
    /// Both lists are in ascending order. The guest reads and writes `pages` like RAM, but
    /// [`GuestRam::ram_ranges`] does not list them: on the Xen platform they hold ACPI tables and
    /// rings.
    ///
    /// # Errors
    ///
    /// [`RamError::Empty`] without a RAM range; [`RamError::NotWholePages`], [`RamError::Order`],
    /// [`RamError::Reserved`] and [`RamError::TooHigh`] for a range that cannot be mapped;
    /// [`RamError::Host`] if the host gives no address space.
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
            budget: MappingBudget::new(),
            frames: FrameTable::new(address_bits)?,
            gate: Gate::default(),
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

    /// Returns the frames that differ from the memory mapped at creation.
    pub(crate) const fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// Returns the lock of accesses to this memory.
    pub(crate) const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Returns the budget of mappings.
    pub(crate) const fn budget(&self) -> &MappingBudget {
        &self.budget
    }

    /// Returns each range of RAM and of other pages, with its mapping.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (GuestRange, &MmapRegion)> {
        self.regions
            .iter()
            .map(|(range, region)| (*range, &***region))
    }

    /// Tells whether a file is mapped over some page of a range.
    pub(crate) fn has_mapped_file(&self, at: Gpa, len_bytes: u64) -> bool {
        self.file_pages.overlap(at, len_bytes)
    }

    /// Replaces pages, with files mapped over them or not, by pages of zeros. `None` if the host
    /// refuses. The caller holds the gate.
    pub(crate) fn replace_with_zeros(
        &self,
        mapping: &MmapRegion,
        place: Range<usize>,
        at: Gpa,
    ) -> Option<()> {
        let len_bytes = place.len() as u64;
        match map_file::map_zero_pages(mapping, place.start, place.len()) {
            Ok(()) => {
                self.file_pages.remove(at, len_bytes);
                Some(())
            }
            Err(refused) => {
                if refused.is_lost {
                    self.lose(at, len_bytes);
                }
                None
            }
        }
    }

    /// Returns each range of RAM and of other pages, with its address in this process.
    pub(crate) fn host_ranges(&self) -> impl Iterator<Item = (GuestRange, u64)> {
        self.regions
            .iter()
            .map(|(range, region)| (*range, region.as_ptr().addr() as u64))
    }

    /// Asks the host to back this memory with transparent huge pages where possible.
    ///
    /// The first touch in each 2 MiB zeroes all of them; later touches there cost nothing. A guest
    /// that uses most of its memory gets faster; a guest that uses little of it loses time and
    /// memory.
    ///
    /// # Errors
    ///
    /// The error of `madvise`, if the host's kernel has no transparent huge pages.
    pub fn prefer_huge_pages(&self) -> io::Result<()> {
        let mut regions = self.regions.iter();
        regions.try_for_each(|(_, region)| map_file::prefer_huge_pages(region, 0..region.size()))
    }

    /// Makes whole pages read as zeros without touching them. Returns whether it could; the pages
    /// must lie in one range.
    ///
    /// Over a file, that takes new mappings. A short range, and any range once the budget is spent,
    /// is left to the caller, who writes zeros.
    fn zero_pages(&self, at: Gpa, len_bytes: u64) -> Result<bool, MemoryError> {
        let Some((mapping, offset)) = self.locate(at, len_bytes) else {
            return Ok(false);
        };
        let Ok(len) = usize::try_from(len_bytes) else {
            return Ok(false);
        };
        if !self.file_pages.overlap(at, len_bytes) {
            return Ok(map_file::discard_pages(mapping, offset, len).is_ok());
        }
        if len_bytes < MIN_ZERO_MAPPING_BYTES || !self.budget.charge(Purpose::Zeros) {
            return Ok(false);
        }
        match map_file::map_zero_pages(mapping, offset, len) {
            Ok(()) => Ok(true),
            Err(refused) if refused.is_lost => {
                self.lose(at, len_bytes);
                Err(MemoryError::Backend { at })
            }
            Err(_) => Ok(false),
        }
    }

    /// Refuses every later access to pages that the host has removed.
    fn lose(&self, at: Gpa, len_bytes: u64) {
        let end = at.0.saturating_add(len_bytes);
        self.frames.lose(at.0 / PAGE_SIZE..end.div_ceil(PAGE_SIZE));
    }

    /// Returns address and length in bytes of each range that a file was mapped over.
    pub(crate) fn mapped_files(&self) -> Vec<(Gpa, u64)> {
        self.file_pages.ranges()
    }

    /// Returns the address of a range of RAM in this process.
    pub(crate) fn host_address(&self, at: Gpa, len_bytes: u64) -> Option<u64> {
        let (mapping, offset) = self.locate(at, len_bytes)?;
        let start = mapping.as_ptr().wrapping_add(offset);
        Some(start.addr() as u64)
    }

    /// Copies the pages of a range of RAM that a file is mapped over, as a write to each page
    /// would.
    pub(crate) fn copy_pages(&self, at: Gpa, len_bytes: u64) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (mapping, offset) = self.locate(at, len_bytes).ok_or_else(invalid)?;
        let len = usize::try_from(len_bytes).map_err(|_| invalid())?;
        map_file::copy_pages(mapping, offset, len)
    }

    /// Returns the memory mapped at creation, without the changes made since.
    pub(crate) const fn base(&self) -> &VmMemory<Arc<GuestRegionMmap>> {
        &self.memory
    }

    /// Makes frames of the memory mapped at creation read as zeros.
    ///
    /// It returns their memory to the host, except where a file is mapped over them: there it
    /// writes zeros, because mapping zero pages instead could exceed the number of mappings of a
    /// process.
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

    /// Writes zeros to a range that is not whole pages.
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

    /// Returns the mapping that holds the whole range, and the offset of its first byte there.
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
        let _access = self.gate.enter();
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
        let _access = self.gate.enter();
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
        let _access = self.gate.enter();
        let Some(changes) = self.frames.changes() else {
            return self.memory.atomic_u32(at, op);
        };
        let (memory, here) = self.word(&changes, at, 4)?;
        let before = memory.atomic_u32(here, op);
        before.map_err(|error| frames::error_at(error, at))
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let _access = self.gate.enter();
        let Some(changes) = self.frames.changes() else {
            return self.memory.atomic_u64(at, op);
        };
        let (memory, here) = self.word(&changes, at, 8)?;
        let before = memory.atomic_u64(here, op);
        before.map_err(|error| frames::error_at(error, at))
    }

    /// Returns whole pages to the host: they use no memory until they are touched again.
    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let _access = self.gate.enter();
        let not_ram = MemoryError::NotRam { at, len_bytes };
        if !self.is_ram(at, len_bytes) {
            return Err(not_ram);
        }
        let end = at.checked_add(len_bytes).ok_or(not_ram)?;
        let last = Gpa(end.0 & !(PAGE_SIZE - 1));
        let pages = at
            .checked_align_up(PAGE_SIZE)
            .and_then(|first| Some((first, last.checked_offset_from(first)?)));
        let is_zeroed = match pages {
            Some((first, pages_bytes)) if pages_bytes > 0 => self.zero_pages(first, pages_bytes)?,
            _ => false,
        };
        match pages {
            Some((first, _)) if is_zeroed => {
                let before = first.checked_offset_from(at).unwrap_or(0);
                self.write_zeros(at, before)?;
                let after = end.checked_offset_from(last).unwrap_or(0);
                self.write_zeros(last, after)
            }
            _ => self.write_zeros(at, len_bytes),
        }
    }

    /// Has the host read straight into the RAM there, in huge pages where the range is made of
    /// them. Holes of the file take no memory.
    ///
    /// It may move the file's position.
    fn fill(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        self.fill_from(at, range)
    }

    /// Maps the range by `mmap(MAP_FIXED | MAP_PRIVATE)` over the RAM there.
    ///
    /// The files of all guests in this process may use a quarter of the kernel's limit on mappings
    /// (`vm.max_map_count`); after that it returns [`MapError::Exhausted`].
    ///
    /// The range must lie within a regular file, up to the end of its last page. If the file is
    /// truncated later, touching the lost pages raises SIGBUS. So the caller must trust the file
    /// not to shrink, or hold a [`LostPages`](crate::LostPages).
    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        let _access = self.gate.enter();
        map_file::check(at, range)?;
        if range.len_bytes == 0 {
            return Ok(());
        }
        let (mapping, offset) = self.locate(at, range.len_bytes).ok_or(MapError::NotRam {
            at,
            len_bytes: range.len_bytes,
        })?;
        if !self.budget.charge(Purpose::File) {
            return Err(MapError::Exhausted { at });
        }
        self.file_pages.add(at, range.len_bytes);
        let mapped = map_file::map_over(mapping, offset, range);
        mapped.map_err(|Refused { source, is_lost }| {
            if is_lost {
                self.lose(at, range.len_bytes);
            }
            MapError::Host { at, source }
        })
    }
}

/// A shorter range over a file is zeroed by writes: they cost less than a mapping.
const MIN_ZERO_MAPPING_BYTES: u64 = 64 << 10;

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam")
            .field("ranges", &self.ram_ranges())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
        os::fd::AsFd,
    };

    use pvh_memory::Frames;

    use super::*;
    use crate::memory::budget;

    const MIB: u64 = 1 << 20;

    /// Returns 4 MiB of RAM whose mappings are limited, and a file of 1 MiB of ones.
    fn limited(limit: usize) -> (GuestRam, File) {
        let mut ram = GuestRam::new(4 * MIB).unwrap();
        ram.budget = budget::tests::budget(limit);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        (ram, file)
    }

    fn map(ram: &GuestRam, file: &File, at: u64, len_bytes: u64) -> Result<(), MapError> {
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes,
        };
        ram.map_file(Gpa(at), range)
    }

    /// Returns how many mappings this process has in the memory of `ram`.
    fn mappings(ram: &GuestRam) -> usize {
        let start = ram.host_address(Gpa(0), 4 * MIB).unwrap();
        let text = fs::read_to_string("/proc/self/maps").unwrap();
        let starts = text.lines().filter_map(|line| {
            let (start, _) = line.split_once('-')?;
            u64::from_str_radix(start, 16).ok()
        });
        starts
            .filter(|at| (start..start + 4 * MIB).contains(at))
            .count()
    }

    #[test]
    fn an_image_of_many_ranges_maps_as_many_as_the_budget_allows() {
        let (ram, file) = limited(80);
        let results: Vec<_> = (0..100)
            .map(|n| map(&ram, &file, n * 0x2000, 0x1000))
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(error, MapError::Exhausted { at: Gpa(0x1_4000) }));
        ram.write(Gpa(0x1_4000), &[7]).unwrap();
        assert!(mappings(&ram) <= 21);
    }

    #[test]
    fn zeros_over_a_file_add_no_mapping_for_a_page() {
        let (ram, file) = limited(80);
        map(&ram, &file, 0, MIB).unwrap();
        let before = mappings(&ram);
        for page in (0..256).step_by(2) {
            ram.zero(Gpa(page * PAGE_SIZE), PAGE_SIZE).unwrap();
        }
        assert!(mappings(&ram) <= before);
        for page in 0..256 {
            let mut byte = [9];
            ram.read(Gpa(page * PAGE_SIZE + 5), &mut byte).unwrap();
            assert_eq!(byte, [(page % 2) as u8]);
        }
    }

    #[test]
    fn zeros_are_written_once_the_budget_is_spent() {
        let (ram, file) = limited(16);
        map(&ram, &file, 0, MIB).unwrap();
        for at in (0..MIB).step_by(128 << 10) {
            ram.zero(Gpa(at), 64 << 10).unwrap();
        }
        assert!(mappings(&ram) <= 9);
        let mut bytes = vec![9; 1 << 20];
        ram.read(Gpa(0), &mut bytes).unwrap();
        for (index, half) in bytes.chunks(64 << 10).enumerate() {
            assert!(half.iter().all(|&byte| usize::from(byte) == index % 2));
        }
    }

    #[test]
    fn lost_pages_refuse_every_access_and_get_no_page_again() {
        let (ram, _) = limited(16);
        ram.lose(Gpa(0x3000), 0x2000);
        for at in [0x3000, 0x4FFF] {
            let error = ram.write(Gpa(at), &[1]).unwrap_err();
            assert!(matches!(error, MemoryError::NotRam { .. }));
            assert!(ram.zero(Gpa(at), 1).is_err() && !ram.is_ram(Gpa(at), 1));
        }
        let gfn = 3;
        assert_eq!(ram.add_frame(gfn), Err(FrameError::Backend { gfn }));
        assert_eq!(ram.remove_frame(gfn), Err(FrameError::Absent { gfn }));
        ram.write(Gpa(0x2FFF), &[1]).unwrap();
        ram.write(Gpa(0x5000), &[1]).unwrap();
    }
}
