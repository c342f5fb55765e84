//! Copies pages of mapped files before a guest that writes to them in ascending order.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use pvh_abi::{Gpa, address::PAGE_SIZE};

use super::ram::GuestRam;

/// Observes which file-backed pages a guest has written, and copies the pages that it will write
/// next.
///
/// The first write to a file-backed page causes a page fault in which the kernel copies it. Copying
/// many pages in one call takes less time. If the guest has written all pages of 512 KiB in
/// ascending order, `WriteAhead` expects it to continue: it copies as many pages ahead as the guest
/// has written that way, at most 8 MiB. It leaves one page in 64 uncopied, to see how far the guest
/// has come. If the guest writes elsewhere, or only reads, nothing is copied.
///
/// Call [`step`](Self::step) on a thread beside the vCPUs.
#[derive(Debug)]
pub struct WriteAhead {
    ram: Arc<GuestRam>,
    areas: Vec<Area>,
    /// What to copy next: the index of an area, and its blocks.
    due: Option<(usize, Range<usize>)>,
    /// `None` if the host refuses it.
    pagemap: Option<&'static Pagemap>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// Pages were copied; there may be more to copy.
    Copied,
    /// There was nothing to copy.
    Nothing,
    /// There will never be anything to copy again.
    Over,
}

/// A range that a file is mapped over, split into blocks of 64 pages.
#[derive(Debug)]
struct Area {
    at: Gpa,
    /// The number of its first page in the address space of this process.
    first_page: u64,
    /// Which blocks have been copied, except for their last page.
    is_copied: Vec<bool>,
}

/// The kernel's table of this process's pages, `/proc/self/pagemap`: 8 bytes for each page.
#[derive(Debug)]
struct Pagemap(File);

impl WriteAhead {
    /// Observes a guest in `ram`, over which all files have been mapped. `None` if no mapped range
    /// has 1 MiB. The first one opens `/proc/self/pagemap` for the rest of the process.
    #[must_use]
    pub fn of(ram: &Arc<GuestRam>) -> Option<Self> {
        let areas = ram
            .mapped_files()
            .into_iter()
            .filter_map(|(at, len_bytes)| {
                let host = ram.host_address(at, len_bytes)?;
                let blocks = usize::try_from(len_bytes / BLOCK_BYTES).ok()?;
                (blocks >= MIN_BLOCKS).then(|| Area {
                    at,
                    first_page: host / PAGE_SIZE,
                    is_copied: vec![false; blocks],
                })
            });
        let areas: Vec<_> = areas.collect();
        (!areas.is_empty()).then(|| Self {
            ram: Arc::clone(ram),
            areas,
            due: None,
            pagemap: Pagemap::open().ok(),
        })
    }

    /// Looks at what the guest has written, and copies up to 64 pages.
    ///
    /// If the host refuses to report or to copy pages, it returns [`Progress::Over`]. The guest's
    /// own writes copy the pages then.
    pub fn step(&mut self) -> Progress {
        match self.find_due().and_then(|()| self.copy()) {
            Ok(progress) => progress,
            Err(_) => Progress::Over,
        }
    }

    /// Finds the blocks to copy next.
    fn find_due(&mut self) -> io::Result<()> {
        if self.due.is_some() {
            return Ok(());
        }
        let pagemap = self.pagemap.ok_or(io::ErrorKind::Unsupported)?;
        for (index, area) in self.areas.iter().enumerate() {
            if let Some(blocks) = area.next_blocks(pagemap)? {
                self.due = Some((index, blocks));
                break;
            }
        }
        Ok(())
    }

    /// Copies one block.
    fn copy(&mut self) -> io::Result<Progress> {
        let Some((index, mut blocks)) = self.due.take() else {
            let is_done = |area: &Area| area.is_copied.iter().all(|is_copied| *is_copied);
            return Ok(match self.areas.iter().all(is_done) {
                true => Progress::Over,
                false => Progress::Nothing,
            });
        };
        let block = blocks.next();
        let area = self.areas.get_mut(index);
        if let (Some(block), Some(area)) = (block, area)
            && let Some(is_copied) = area.is_copied.get_mut(block)
        {
            *is_copied = true;
            let offset = BLOCK_BYTES.saturating_mul(block as u64);
            let at = Gpa(area.at.0.saturating_add(offset));
            self.ram
                .copy_pages(at, BLOCK_BYTES.saturating_sub(PAGE_SIZE))?;
        }
        self.due = (!blocks.is_empty()).then_some((index, blocks));
        Ok(Progress::Copied)
    }
}

impl Area {
    /// Finds the blocks to copy: those after a run of blocks that the guest has written.
    fn next_blocks(&self, pagemap: &Pagemap) -> io::Result<Option<Range<usize>>> {
        let mut run = 0..0;
        for block in 0..self.is_copied.len() {
            if pagemap.is_copied_page(self.last_page(block))? {
                run.end = block.saturating_add(1);
                continue;
            }
            let window = self.full_blocks(run, pagemap)?;
            if window >= 2 {
                let ahead = self.is_copied.iter().skip(block);
                let copied = ahead.take_while(|is_copied| **is_copied).count();
                let start = block.saturating_add(copied);
                let end = start.saturating_add(window).min(self.is_copied.len());
                if copied <= window / 2 && start < end {
                    return Ok(Some(start..end));
                }
            }
            let next = block.saturating_add(1);
            run = next..next;
        }
        Ok(None)
    }

    /// Counts the blocks at the end of a run in which nearly all pages were written, or which were
    /// copied; at most [`MAX_WINDOW_BLOCKS`].
    fn full_blocks(&self, run: Range<usize>, pagemap: &Pagemap) -> io::Result<usize> {
        let mut full = 0_usize;
        for block in run.rev().take(MAX_WINDOW_BLOCKS) {
            let is_copied = self
                .is_copied
                .get(block)
                .is_some_and(|is_copied| *is_copied);
            let first = self.last_page(block).saturating_sub(BLOCK_PAGES - 1);
            if !is_copied && pagemap.count_copied_pages(first)? < FULL_BLOCK_PAGES {
                break;
            }
            full = full.saturating_add(1);
        }
        Ok(full)
    }

    fn last_page(&self, block: usize) -> u64 {
        let next = (block as u64).saturating_add(1);
        let pages = next.saturating_mul(BLOCK_PAGES).saturating_sub(1);
        self.first_page.saturating_add(pages)
    }
}

impl Pagemap {
    /// Opens the table, once for the process: a thread that runs a guest may open nothing. The
    /// descriptor stays open.
    fn open() -> io::Result<&'static Self> {
        static OPENED: OnceLock<Pagemap> = OnceLock::new();
        if let Some(opened) = OPENED.get() {
            return Ok(opened);
        }
        let file = File::open("/proc/self/pagemap")?;
        Ok(OPENED.get_or_init(|| Self(file)))
    }

    /// Tells whether a page has been copied, so that it no longer belongs to the file.
    fn is_copied_page(&self, page: u64) -> io::Result<bool> {
        let mut entry = [0; 8];
        self.0.read_exact_at(&mut entry, page.saturating_mul(8))?;
        Ok(is_copied_page(entry))
    }

    /// Counts the copied pages of a block.
    fn count_copied_pages(&self, first: u64) -> io::Result<usize> {
        let mut entries = [[0; 8]; BLOCK_LEN];
        let bytes = entries.as_flattened_mut();
        self.0.read_exact_at(bytes, first.saturating_mul(8))?;
        Ok(entries
            .into_iter()
            .filter(|entry| is_copied_page(*entry))
            .count())
    }
}

fn is_copied_page(entry: [u8; 8]) -> bool {
    let entry = u64::from_le_bytes(entry);
    entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0
}

/// Pages in a block.
const BLOCK_LEN: usize = 64;
const BLOCK_PAGES: u64 = BLOCK_LEN as u64;

/// A block in which this many pages were written counts as written.
const FULL_BLOCK_PAGES: usize = 56;

const BLOCK_BYTES: u64 = BLOCK_PAGES * PAGE_SIZE;

/// The smallest area that is observed, in blocks.
const MIN_BLOCKS: usize = 4;

/// The largest number of blocks that are copied ahead: 8 MiB.
const MAX_WINDOW_BLOCKS: usize = 32;

/// Bits of an entry of /proc/self/pagemap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use std::os::fd::AsFd;

    use pvh_memory::{FileRange, GuestMemory};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// 16 MiB of RAM, 8 MiB of a file at 4 MiB.
    fn mapped() -> (Arc<GuestRam>, WriteAhead) {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..8 * MIB)
            .map(|at| (at / PAGE_SIZE % 251) as u8)
            .collect();
        file.write_all_at(&bytes, 0).unwrap();
        let ram = Arc::new(GuestRam::new(16 * MIB).unwrap());
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 8 * MIB,
        };
        ram.map_file(Gpa(4 * MIB), range).unwrap();
        let ahead = WriteAhead::of(&ram).unwrap();
        (ram, ahead)
    }

    /// Writes to pages of the file without changing what they hold.
    fn touch(ram: &GuestRam, pages: impl IntoIterator<Item = u64>) {
        for page in pages {
            let at = Gpa(4 * MIB + page * PAGE_SIZE);
            let mut byte = [0];
            ram.read(at, &mut byte).unwrap();
            ram.write(at, &byte).unwrap();
        }
    }

    /// Returns the pages of the file that have been copied.
    fn own(ahead: &WriteAhead) -> Vec<u64> {
        let pagemap = Pagemap::open().unwrap();
        let first = ahead.areas[0].first_page;
        let is_copied_page = |page: &u64| pagemap.is_copied_page(first + page).unwrap();
        (0..2048).filter(is_copied_page).collect()
    }

    fn run(ahead: &mut WriteAhead) -> Progress {
        loop {
            match ahead.step() {
                Progress::Copied => {}
                last => return last,
            }
        }
    }

    #[test]
    fn as_many_blocks_are_copied_as_were_written_without_one_page_in_64() {
        let (ram, mut ahead) = mapped();
        touch(&ram, 256..512);
        assert_eq!(run(&mut ahead), Progress::Nothing);
        // The guest has written four blocks, so the next four are copied.
        let expected: Vec<u64> = (256..512)
            .chain((512..768).filter(|page| page % 64 != 63))
            .collect();
        assert_eq!(own(&ahead), expected);
        let mut byte = [0];
        ram.read(Gpa(4 * MIB + 600 * PAGE_SIZE), &mut byte).unwrap();
        assert_eq!(byte, [(600 % 251) as u8]);
    }

    #[test]
    fn copying_stays_ahead_of_a_guest_that_writes_to_the_end() {
        let (ram, mut ahead) = mapped();
        let mut last = Progress::Nothing;
        for block in 0..32 {
            touch(&ram, block * 64..block * 64 + 64);
            last = run(&mut ahead);
        }
        assert!(
            ahead.areas[0].is_copied[8..]
                .iter()
                .all(|is_copied| *is_copied)
        );
        assert_eq!(
            last,
            Progress::Nothing,
            "the first blocks were written, not copied"
        );
    }

    #[test]
    fn scattered_writes_and_reads_copy_nothing() {
        let (ram, mut ahead) = mapped();
        let here_and_there: Vec<u64> = (0..2048).filter(|page| page % 4 == 3).collect();
        touch(&ram, here_and_there.iter().copied());
        let mut bytes = vec![0; 8 << 20];
        ram.read(Gpa(4 * MIB), &mut bytes).unwrap();
        assert_eq!(run(&mut ahead), Progress::Nothing);
        assert_eq!(own(&ahead), here_and_there);
    }

    #[test]
    fn a_guest_without_large_mapped_files_is_not_observed() {
        let ram = Arc::new(GuestRam::new(16 * MIB).unwrap());
        assert!(WriteAhead::of(&ram).is_none());
    }
}
