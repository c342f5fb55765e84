//! Copies files that are mapped into guest memory into huge pages, early in the guest's start.

use std::{ops::Range, sync::Arc, time::Duration};

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::GuestMemory;
use vm_memory::MmapRegion;

use super::{budget::Purpose, map_file, map_file::HUGE_PAGE_LEN, ram::GuestRam};

/// The copy of mapped file pages into memory of the guest's own.
///
/// A guest whose files are mapped starts at once, but each 4 KiB of them costs it an exit when they
/// are first touched, and a second one when they are written. A copy in huge pages costs one exit for
/// 2 MiB, and does not depend on the file any more. It is no longer shared with other guests.
///
/// Until it has run or is dropped, accesses of this process to the guest's memory take a lock.
#[derive(Debug)]
pub struct HugeCopy {
    ram: Arc<GuestRam>,
}

impl HugeCopy {
    /// Prepares to copy the file pages that are mapped, from the lowest address on, at most 256 MiB.
    /// `None` if there are less than 1 MiB of them. Call it before other threads get the memory.
    #[must_use]
    pub fn of(ram: &Arc<GuestRam>) -> Option<Self> {
        let bytes = ram.mapped_files().into_iter();
        let bytes = bytes.map(|(_, len_bytes)| len_bytes);
        (bytes.fold(0, u64::saturating_add) >= MIN_BYTES).then(|| {
            ram.gate().guard();
            Self {
                ram: Arc::clone(ram),
            }
        })
    }

    /// Copies, and returns how many bytes were copied. Call it while no vCPU is in the guest, and
    /// none can enter it.
    ///
    /// It copies blocks of 2 MiB, with everything that the guest has written to them, through a
    /// buffer of that size. It takes about 0.5 ms for each. Other threads of this process wait
    /// meanwhile if they access guest memory. If one of them does not leave it within 10 ms, nothing
    /// is copied. If the host refuses something, what was not copied stays mapped.
    pub fn run(self) -> u64 {
        let Some(_closed) = self.ram.gate().close(PATIENCE) else {
            return 0;
        };
        if self.ram.frames().changes().is_some() {
            // Frames were added, removed or lost, so not every page may be read.
            return 0;
        }
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(HUGE_PAGE_LEN).is_err() {
            return 0;
        }
        buffer.resize(HUGE_PAGE_LEN, 0);
        let mut copied = 0_u64;
        for block in self.blocks() {
            if copied >= MAX_BYTES || self.copy(&block, &mut buffer).is_none() {
                break;
            }
            copied = copied.saturating_add(block.place.len() as u64);
        }
        copied
    }

    /// The blocks that have file pages.
    fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        self.ram.mappings().flat_map(move |(range, mapping)| {
            let places = blocks_of(mapping.as_ptr().addr(), mapping.size());
            places.filter_map(move |place| {
                let at = range.start.checked_add(place.start as u64)?;
                let has_files = self.ram.has_mapped_file(at, place.len() as u64);
                has_files.then_some(Block { mapping, place, at })
            })
        })
    }

    /// Replaces a block by a copy in anonymous memory.
    fn copy(&self, block: &Block<'_>, buffer: &mut [u8]) -> Option<()> {
        let Block { mapping, place, at } = block;
        let bytes = buffer.get_mut(..place.len())?;
        self.ram.base().read(*at, bytes).ok()?;
        if !self.ram.budget().charge(Purpose::File) {
            return None;
        }
        self.ram.replace_with_zeros(mapping, place.clone(), *at)?;
        // Small pages do as well, with more page faults.
        let _ = map_file::prefer_huge_pages(mapping, place.clone());
        if bytes.iter().any(|&byte| byte != 0) {
            self.ram.base().write(*at, bytes).ok()?;
        }
        Some(())
    }
}

impl Drop for HugeCopy {
    fn drop(&mut self) {
        self.ram.gate().leave_open();
    }
}

/// A part of guest memory that becomes one huge page, or less at the ends of a mapping.
struct Block<'ram> {
    mapping: &'ram MmapRegion,
    place: Range<usize>,
    at: Gpa,
}

/// Splits a mapping at the addresses where huge pages may begin.
fn blocks_of(base: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let first = base.next_multiple_of(HUGE_PAGE_LEN).saturating_sub(base);
    let borders = (first..len).step_by(HUGE_PAGE_LEN);
    let starts = (first > 0).then_some(0).into_iter().chain(borders.clone());
    let ends = borders.filter(|&end| end > 0).chain([len]);
    starts.zip(ends).map(|(start, end)| start..end)
}

/// Less is not worth it.
const MIN_BYTES: u64 = 1 << 20;

/// The most that is copied, 0.1 s: kernel and initrd of a distribution have up to 150 MiB, and a
/// hostile file may have any length.
const MAX_BYTES: u64 = 256 << 20;

/// How long other threads have to leave guest memory.
const PATIENCE: Duration = Duration::from_millis(10);

const _: () = assert!((HUGE_PAGE_LEN as u64).is_multiple_of(PAGE_SIZE));

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "the numbers are small, and a test may panic"
)]
mod tests {
    use std::{
        fs::File,
        os::{fd::AsFd, unix::fs::FileExt},
    };

    use pvh_memory::{FileRange, Frames};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn map(ram: &GuestRam, file: &File, at: u64, len_bytes: u64) {
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes,
        };
        ram.map_file(Gpa(at), range).unwrap();
    }

    fn bytes(ram: &GuestRam) -> Vec<u8> {
        let mut bytes = vec![0; 16 << 20];
        ram.read(Gpa(0), &mut bytes).unwrap();
        bytes
    }

    /// 16 MiB of RAM: 5 MiB of a file at 3 MiB, 2 MiB of it at 12 MiB, and bytes written to both.
    fn mapped() -> (Arc<GuestRam>, File) {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..5 * MIB).map(|at| (at / 1000 % 251) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        let ram = Arc::new(GuestRam::new(16 * MIB).unwrap());
        map(&ram, &file, 3 * MIB, 5 * MIB);
        map(&ram, &file, 12 * MIB, 2 * MIB);
        for at in [0, 3 * MIB + 5, 7 * MIB, 9 * MIB, 13 * MIB] {
            ram.write(Gpa(at), b"guest").unwrap();
        }
        (ram, file)
    }

    #[test]
    fn the_guest_s_memory_is_the_same_and_no_file_s_any_more() {
        let (ram, file) = mapped();
        let before = bytes(&ram);
        let copied = HugeCopy::of(&ram).unwrap().run();
        // The blocks that the files lie in, wherever the host put the memory.
        assert!((8 * MIB..=12 * MIB).contains(&copied), "{copied:#x}");
        assert!(ram.mapped_files().is_empty());
        file.set_len(0).unwrap();
        assert!(bytes(&ram) == before);
    }

    #[test]
    fn a_hole_of_the_file_takes_no_memory() {
        let ram = Arc::new(GuestRam::new(16 * MIB).unwrap());
        let file = tempfile::tempfile().unwrap();
        file.set_len(12 * MIB).unwrap();
        map(&ram, &file, 2 * MIB, 12 * MIB);
        HugeCopy::of(&ram).unwrap().run();
        let start = ram.host_address(Gpa(0), 16 * MIB).unwrap();
        assert_eq!(resident_pages(start, 16 * MIB), 0);
        assert!(bytes(&ram).iter().all(|&byte| byte == 0));
    }

    /// Counts the pages of a part of this process that have memory.
    fn resident_pages(start: u64, len: u64) -> usize {
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut entries = vec![0; (len / PAGE_SIZE * 8) as usize];
        pagemap
            .read_exact_at(&mut entries, start / PAGE_SIZE * 8)
            .unwrap();
        let (entries, _) = entries.as_chunks::<8>();
        let is_present = |entry: &&[u8; 8]| u64::from_le_bytes(**entry) >> 62 != 0;
        entries.iter().filter(is_present).count()
    }

    #[test]
    fn accesses_take_the_lock_until_it_has_run_or_is_dropped() {
        let (ram, _file) = mapped();
        let copy = HugeCopy::of(&ram).unwrap();
        assert!(ram.gate().enter().is_some());
        drop(copy);
        assert!(ram.gate().enter().is_none());
        HugeCopy::of(&ram).unwrap().run();
        assert!(ram.gate().enter().is_none());
    }

    #[test]
    fn nothing_is_copied_while_a_thread_is_in_guest_memory_or_after_frames_have_changed() {
        let (ram, _file) = mapped();
        let copy = HugeCopy::of(&ram).unwrap();
        let access = ram.gate().enter();
        assert_eq!(copy.run(), 0);
        drop(access);
        ram.remove_frame(1).unwrap();
        assert_eq!(HugeCopy::of(&ram).unwrap().run(), 0);
        assert_eq!(ram.mapped_files().len(), 2);
    }

    #[test]
    fn less_than_1_mib_of_files_is_left_alone() {
        let ram = Arc::new(GuestRam::new(16 * MIB).unwrap());
        assert!(HugeCopy::of(&ram).is_none());
        let file = tempfile::tempfile().unwrap();
        file.set_len(MIB).unwrap();
        map(&ram, &file, MIB, MIB - PAGE_SIZE);
        assert!(HugeCopy::of(&ram).is_none());
        map(&ram, &file, 4 * MIB, PAGE_SIZE);
        assert!(HugeCopy::of(&ram).is_some());
    }

    #[test]
    fn a_mapping_is_split_where_huge_pages_may_begin() {
        let split = |base, len| -> Vec<(usize, usize)> {
            let blocks = blocks_of(base, len);
            blocks.map(|block| (block.start, block.end)).collect()
        };
        let huge = HUGE_PAGE_LEN;
        assert_eq!(split(huge, 2 * huge), [(0, huge), (huge, 2 * huge)]);
        assert_eq!(split(huge, huge + 9), [(0, huge), (huge, huge + 9)]);
        assert_eq!(split(huge - 5, huge), [(0, 5), (5, huge)]);
        assert_eq!(split(huge + 5, 7), [(0, 7)]);
        assert_eq!(split(huge, 7), [(0, 7)]);
    }
}
