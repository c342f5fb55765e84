//! Writes into guest memory, or maps files into it.

use std::os::fd::BorrowedFd;

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::{FileRange, GuestMemory};

use super::{error::CommitError, method::Method};
use crate::{
    image::Image,
    layout::Span,
    plan::{Patch, Write},
};

/// Carries out single writes and counts their bytes.
pub(super) struct Writer<'a, M: ?Sized> {
    memory: &'a M,
    method: Method,
    /// Empty until a file is read.
    buffer: Vec<u8>,
    pub(super) written_bytes: u64,
    pub(super) mapped_bytes: u64,
}

/// The file that a write's bytes could be mapped from, and the offset there.
#[derive(Clone, Copy)]
pub(super) struct Origin<'fd> {
    pub(super) file: BorrowedFd<'fd>,
    pub(super) offset: u64,
}

impl<'a, M: GuestMemory + ?Sized> Writer<'a, M> {
    pub(super) const fn new(memory: &'a M, method: Method) -> Self {
        Self {
            memory,
            method,
            buffer: Vec::new(),
            written_bytes: 0,
            mapped_bytes: 0,
        }
    }

    /// Writes or maps a segment's bytes, which begin at `file_offset` of the image.
    pub(super) fn segment(
        &mut self,
        write: &Write,
        image: &Image,
        index: usize,
        file_offset: u64,
    ) -> Result<(), CommitError> {
        let unpacked = image.bytes().and_then(|bytes| {
            let start = usize::try_from(file_offset).ok()?;
            let len = usize::try_from(write.range.len_bytes).ok()?;
            bytes.get(start..start.checked_add(len)?)
        });
        if let Some(bytes) = unpacked {
            return self.put(write, 0, bytes);
        }
        let origin = image.file_range().and_then(|(file, start)| {
            let offset = start.checked_add(file_offset)?;
            Some(Origin { file, offset })
        });
        self.file(write, origin, |done, buf| {
            let read = image.read_at(file_offset.saturating_add(done), buf);
            read.map_err(|source| CommitError::ReadImage { index, source })
        })
    }

    /// Maps the whole pages of a file if the method says so and the memory can, and copies the
    /// rest. `read` gets the offset in the write.
    pub(super) fn file(
        &mut self,
        write: &Write,
        origin: Option<Origin<'_>>,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let end = write.range.len_bytes;
        let origin = origin.filter(|_| self.method == Method::Map);
        let mapped = origin.and_then(|origin| self.map(write.range, origin));
        let mapped = mapped.unwrap_or(Span::new(end, end));
        self.copy(write, Span::new(0, mapped.start), &mut read)?;
        self.copy(write, Span::new(mapped.end, end), &mut read)
    }

    /// Maps the whole pages of `range` and returns their part of it, or `None` if they are too few
    /// or the guest memory cannot map them.
    fn map(&mut self, range: GuestRange, origin: Origin<'_>) -> Option<Span> {
        let pages = whole_pages(range, origin.offset)?;
        let at = range.start.checked_add(pages.start)?;
        let len_bytes = pages.end.checked_sub(pages.start)?;
        let file_range = FileRange {
            file: origin.file,
            offset: origin.offset.checked_add(pages.start)?,
            len_bytes,
        };
        // The caller copies instead. If the file is at fault, reading it gives a better error.
        self.memory.map_file(at, file_range).ok()?;
        self.mapped_bytes = self.mapped_bytes.saturating_add(len_bytes);
        Some(pages)
    }

    /// Copies `part` of the range of `write` from `read`, one buffer at a time.
    fn copy(
        &mut self,
        write: &Write,
        part: Span,
        read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut at = part.start;
        while let Some(left) = part.end.checked_sub(at).filter(|&left| left > 0) {
            let step = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            if buffer.len() < step {
                buffer.resize(step, 0);
            }
            let (piece, _) = buffer.split_at_mut(step);
            read(at, piece)?;
            self.put(write, at, piece)?;
            at = at.saturating_add(piece.len() as u64);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Writes `bytes` at `offset` in the range of `write`.
    pub(super) fn put(
        &mut self,
        write: &Write,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), CommitError> {
        let what = write.kind;
        let at = Gpa(write.range.start.0.saturating_add(offset)); // a range of RAM does not wrap
        let written = self.memory.write(at, bytes);
        written.map_err(|source| CommitError::Memory { what, source })?;
        self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    pub(super) fn patch(&mut self, patch: &Patch) -> Result<(), CommitError> {
        let written = self.memory.write(patch.at, &patch.bytes());
        written.map_err(|source| CommitError::MemoryPatch {
            patch: *patch,
            source,
        })
    }

    pub(super) fn zero(&mut self, write: &Write) -> Result<(), CommitError> {
        let Write { kind: what, range } = *write;
        let zeroed = self.memory.zero(range.start, range.len_bytes);
        zeroed.map_err(|source| CommitError::Memory { what, source })?;
        self.written_bytes = self.written_bytes.saturating_add(range.len_bytes);
        Ok(())
    }
}

/// Returns the part of `range` that is whole pages both in guest memory and in the file, where it
/// begins at `offset`. Returns `None` if that part is too short to be worth a mapping.
fn whole_pages(range: GuestRange, offset: u64) -> Option<Span> {
    if range.start.0 % PAGE_SIZE != offset % PAGE_SIZE {
        return None;
    }
    let first = range.start.checked_align_up(PAGE_SIZE)?;
    let over = range.end()?.0 % PAGE_SIZE;
    let start = first.checked_offset_from(range.start)?;
    let end = range.len_bytes.checked_sub(over)?;
    let len_bytes = end.checked_sub(start)?;
    (len_bytes >= MAPPED_BYTES_MIN).then_some(Span::new(start, end))
}

/// Length of the copy buffer.
const BUFFER_BYTES: usize = 256 << 10;

/// A shorter part is copied: a mapping takes some microseconds, and the guest's first writes to it
/// are slower than to RAM.
const MAPPED_BYTES_MIN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(start: u64, len_bytes: u64, offset: u64) -> Option<(u64, u64)> {
        whole_pages(GuestRange::new(Gpa(start), len_bytes), offset)
            .map(|span| (span.start, span.end))
    }

    #[test]
    fn only_pages_that_are_whole_on_both_sides_are_mapped() {
        assert_eq!(pages(0x10_0000, 0x2_0000, 0x1000), Some((0, 0x2_0000)));
        assert_eq!(pages(0x10_0000, 0x2_0fff, 0x1000), Some((0, 0x2_0000)));
        assert_eq!(pages(0x10_0234, 0x2_0000, 0x234), Some((0xdcc, 0x1_fdcc)));
        assert_eq!(pages(0x10_0001, 0x2_0fff, 0x1), Some((0xfff, 0x2_0fff)));
        assert_eq!(pages(0x10_0000, 0x2_0000, 0x1001), None);
        assert_eq!(pages(0x10_0001, 0x2_0000, 0x1000), None);
    }

    #[test]
    fn short_ranges_are_copied() {
        assert_eq!(pages(0x1000, 0x1_0000, 0), Some((0, 0x1_0000)));
        assert_eq!(pages(0x1000, 0xffff, 0), None);
        assert_eq!(pages(0x1800, 0x1_07ff, 0x800), None);
        assert_eq!(pages(0x1800, 0x700, 0x800), None);
        assert_eq!(pages(0x1000, 0, 0), None);
    }

    #[test]
    fn a_range_past_the_end_of_the_address_space_has_no_whole_pages() {
        assert_eq!(pages(u64::MAX, 1, 0xfff), None);
        assert_eq!(pages(0x1000, u64::MAX, 0), None);
    }
}
