//! Moves bytes between files and guest memory, without a copy in between.
// UNSAFETY: `preadv` and `pwritev` take addresses of guest memory, to which Rust has no reference,
// and `lseek` finds the holes of a file.
#![expect(
    unsafe_code,
    reason = "preadv and pwritev on addresses of guest memory, lseek on a file"
)]

use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    ptr,
};

use libc::{c_int, iovec, off_t};
use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::{FileRange, FillError, GuestMemory, MemoryError};

use super::{GuestRam, map_file};
use crate::memory::{
    budget::Purpose,
    frames::{FrameState, State},
};

/// Why bytes were not moved between a file and guest memory. Some may have been moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A range is not guest RAM. Nothing has been moved.
    #[error("the guest's pages cannot be used")]
    Memory(#[source] MemoryError),
    /// The file ends before the last byte.
    #[error("the file ends at byte {at}")]
    End {
        /// Where it ends, at the latest.
        at: u64,
    },
    /// The host refused, at this byte or one after it.
    #[error("byte {at} of the file cannot be transferred")]
    Host {
        /// The first byte that was not moved.
        at: u64,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Moves bytes between files and guest memory.
///
/// Both take a place in the file and a list of ranges of guest memory, which follow each other in
/// the file. They allocate one entry of 16 bytes for each page of the ranges at most, take the lock
/// of the guest's frames while they look at the ranges, and hold no lock while the host works: the
/// thread waits as long as the file does. They go on after a signal and after a part.
///
/// The guest runs meanwhile, and may change or remove the pages: then the bytes are the guest's own
/// newest ones, or go to the page that was there. No memory outside of this guest's is reached.
impl GuestRam {
    /// Reads from a file into guest memory.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn read_from_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        ranges: &[GuestRange],
    ) -> Result<(), TransferError> {
        self.transfer(file, Direction::Read, offset, ranges)
    }

    /// Writes guest memory to a file.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn write_to_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        ranges: &[GuestRange],
    ) -> Result<(), TransferError> {
        self.transfer(file, Direction::Write, offset, ranges)
    }

    /// Reads a range of a file into memory, except where the file has holes: these are zeroed, which
    /// takes no memory.
    pub(super) fn fill_from(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        let (file, len_bytes) = (range.file, range.len_bytes);
        if !self.is_ram(at, len_bytes) {
            return Err(FillError::Memory(MemoryError::NotRam { at, len_bytes }));
        }
        self.ask_for_huge_pages(at, len_bytes);
        let end = range.offset.saturating_add(len_bytes);
        let place = |offset: u64| Gpa(at.0.saturating_add(offset.saturating_sub(range.offset)));
        let has_holes = has_holes(file);
        let mut done = range.offset;
        while done < end {
            let data = match has_holes {
                true => next_data(file, done..end),
                false => done..end,
            };
            let zeros = data.start.saturating_sub(done);
            self.zero(place(done), zeros).map_err(FillError::Memory)?;
            let bytes = data.end.saturating_sub(data.start);
            let to = GuestRange::new(place(data.start), bytes);
            let read = self.read_from_file(file, data.start, &[to]);
            read.map_err(|error| match error {
                TransferError::Memory(source) => FillError::Memory(source),
                TransferError::End { at } => FillError::Read {
                    offset: at,
                    source: io::ErrorKind::UnexpectedEof.into(),
                },
                TransferError::Host { at, source } => FillError::Read { offset: at, source },
            })?;
            done = data.end;
        }
        Ok(())
    }

    /// Asks the host for huge pages in the part of a range that is made of them: reading into them
    /// takes one page fault instead of 512, and so does each touch of the guest.
    ///
    /// It takes two mappings of the budget. If the budget is spent, or the host has no huge pages,
    /// the range gets small ones.
    fn ask_for_huge_pages(&self, at: Gpa, len_bytes: u64) {
        let Some((mapping, offset)) = self.locate(at, len_bytes) else {
            return;
        };
        let Ok(len) = usize::try_from(len_bytes) else {
            return;
        };
        let Some(part) = map_file::huge_part(mapping, offset, len) else {
            return;
        };
        if self.budget.charge(Purpose::File) {
            // Small pages do as well.
            let _ = map_file::prefer_huge_pages(mapping, part);
        }
    }

    fn transfer(
        &self,
        file: BorrowedFd<'_>,
        direction: Direction,
        offset: u64,
        ranges: &[GuestRange],
    ) -> Result<(), TransferError> {
        let _access = self.gate.enter();
        let vectors = self.vectors(ranges).map_err(TransferError::Memory)?;
        let (mut rest, mut at) = (vectors, offset);
        while !rest.is_empty() {
            match self.call(direction, file, at, &rest) {
                Ok(0) => return Err(TransferError::End { at }),
                Ok(moved) => {
                    at = at.saturating_add(moved as u64);
                    advance(&mut rest, moved);
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TransferError::Host { at, source }),
            }
        }
        Ok(())
    }

    /// Makes one system call for the first parts, which `vectors` has made.
    fn call(
        &self,
        direction: Direction,
        file: BorrowedFd<'_>,
        at: u64,
        parts: &[Part],
    ) -> io::Result<usize> {
        let vectors: Vec<iovec> = parts.iter().take(VECTORS_MAX).map(vector).collect();
        let count = c_int::try_from(vectors.len()).unwrap_or(0);
        let at = off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, first) = (file.as_raw_fd(), vectors.as_ptr());
        let moved = match direction {
            // SAFETY: `fd` is open, as `file` is borrowed. `first` points to `count` vectors, which
            // live until the end of this function. Each names bytes of a mapping that `self` owns:
            // of a region, or of the pool of pages. Both stay mapped, readable and writable, as
            // long as `self` is borrowed. Pages that the host has removed were refused; for one
            // that it removes now, the kernel answers EFAULT. Rust holds no reference into guest
            // memory: this crate accesses it only through volatile slices and atomics, so the
            // kernel may write there.
            Direction::Read => unsafe { libc::preadv(fd, first, count, at) },
            // SAFETY: as above; the kernel only reads the memory.
            Direction::Write => unsafe { libc::pwritev(fd, first, count, at) },
        };
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }

    /// Returns where the ranges are in this process. Pages that follow each other are one part.
    fn vectors(&self, ranges: &[GuestRange]) -> Result<Vec<Part>, MemoryError> {
        let changes = self.frames.changes();
        let mut parts: Vec<Part> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (start, len_bytes) = (range.start, range.len_bytes);
            let not_ram = MemoryError::NotRam {
                at: start,
                len_bytes,
            };
            let end = start.checked_add(len_bytes).ok_or(not_ram)?;
            let mut at = start;
            if changes.is_none()
                && let Some(address) = self.host_address(start, len_bytes)
            {
                let address = usize::try_from(address).map_err(|_| not_ram)?;
                let len = usize::try_from(len_bytes).map_err(|_| not_ram)?;
                push(&mut parts, Part { address, len });
                continue;
            }
            while at < end {
                let page_end = (at.0 & !(PAGE_SIZE - 1)).saturating_add(PAGE_SIZE);
                let next = Gpa(page_end.min(end.0));
                let len = usize::try_from(next.0.saturating_sub(at.0)).unwrap_or(0);
                let address = self.address_in_page(changes.as_deref(), at, len as u64);
                let address = address.and_then(|address| usize::try_from(address).ok());
                let address = address.ok_or(not_ram)?;
                push(&mut parts, Part { address, len });
                at = next;
            }
        }
        Ok(parts)
    }

    /// Returns the address in this process of bytes that lie in one page of the guest.
    fn address_in_page(&self, changes: Option<&State>, at: Gpa, len_bytes: u64) -> Option<u64> {
        let state = match changes {
            Some(changes) => changes.frame_state(self.base(), at.0 / PAGE_SIZE),
            None if self.memory.is_ram(at, len_bytes) => FrameState::Ram,
            None => FrameState::Hole,
        };
        match state {
            FrameState::Ram => self.host_address(at, len_bytes),
            FrameState::Added(page) => {
                let start = self.frames.pool().host_address(page)?;
                start.checked_add(at.0 % PAGE_SIZE)
            }
            FrameState::Removed | FrameState::Lost | FrameState::Hole => None,
        }
    }
}

/// A part of guest memory in this process.
#[derive(Clone, Copy, Debug)]
struct Part {
    address: usize,
    len: usize,
}

impl Part {
    const fn end(self) -> usize {
        self.address.saturating_add(self.len)
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Read,
    Write,
}

/// Adds a part, or makes the last one longer where both touch.
fn push(parts: &mut Vec<Part>, part: Part) {
    match parts.last_mut() {
        Some(last) if last.end() == part.address => last.len = last.len.saturating_add(part.len),
        _ if part.len > 0 => parts.push(part),
        _ => {}
    }
}

/// Tells whether a file uses less of the disk than it has bytes.
fn has_holes(file: BorrowedFd<'_>) -> bool {
    metadata(file).is_ok_and(|found| found.blocks().saturating_mul(BLOCK_BYTES) < found.len())
}

fn metadata(file: BorrowedFd<'_>) -> io::Result<Metadata> {
    File::from(file.try_clone_to_owned()?).metadata()
}

/// Returns the first bytes of a range that are not a hole; the rest of the range is left for the
/// next call. If the file system cannot tell, all are.
///
/// It moves the file's position, which nothing here depends on.
fn next_data(file: BorrowedFd<'_>, range: Range<u64>) -> Range<u64> {
    let start = match seek(file, range.start, libc::SEEK_DATA) {
        Ok(start) => start.min(range.end),
        // A hole up to the end of the file, which may come before that of the range.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            let len = metadata(file).map_or(range.start, |found| found.len());
            len.clamp(range.start, range.end)
        }
        Err(_) => return range,
    };
    let end = match seek(file, start, libc::SEEK_HOLE) {
        Ok(end) if end > start => end.min(range.end),
        _ => range.end,
    };
    start..end
}

fn seek(file: BorrowedFd<'_>, offset: u64, whence: c_int) -> io::Result<u64> {
    let offset = off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `lseek` has no demands but an open descriptor; `file` is borrowed and so stays open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

fn vector(part: &Part) -> iovec {
    iovec {
        iov_base: ptr::without_provenance_mut(part.address),
        iov_len: part.len,
    }
}

/// Removes the bytes that have been moved from the front of the parts.
fn advance(parts: &mut Vec<Part>, mut moved: usize) {
    let mut done = 0_usize;
    for part in parts.iter_mut() {
        if moved < part.len {
            part.address = part.address.saturating_add(moved);
            part.len = part.len.saturating_sub(moved);
            break;
        }
        moved = moved.saturating_sub(part.len);
        done = done.saturating_add(1);
    }
    parts.drain(..done);
}

/// The most parts that one system call takes (`IOV_MAX`).
const VECTORS_MAX: usize = 1024;

/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
