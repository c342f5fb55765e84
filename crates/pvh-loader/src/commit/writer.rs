//! Writes into guest memory, or maps files into it.

use std::{io, os::fd::BorrowedFd};

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_memory::{FileRange, FillError, GuestMemory, MemoryError};

use super::{error::CommitError, method::Method};
use crate::{
    image::{Image, ImageError},
    layout::Span,
    plan::{Patch, Write},
};

/// Carries out single writes and counts their bytes.
pub(super) struct Writer<'a, M: ?Sized> {
    memory: &'a M,
    method: Method,
    pub(super) written_bytes: u64,
    pub(super) mapped_bytes: u64,
}

/// The file that holds a write's bytes, and the offset there.
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
        let read_error = |source| CommitError::ReadImage { index, source };
        let origin = image.file_range().and_then(|(file, start)| {
            let offset = start.checked_add(file_offset)?;
            Some(Origin { file, offset })
        });
        let Some(origin) = origin else {
            return self.copy(write, |done, buf| {
                let read = image.read_at(file_offset.saturating_add(done), buf);
                read.map_err(read_error)
            });
        };
        self.file(write, origin, |offset, len_bytes, source| {
            read_error(ImageError::Read {
                offset,
                len_bytes,
                source,
            })
        })
    }

    /// Maps the whole pages of a file if the method says so and the memory can, and has the memory
    /// read the rest. `failed` gets the offset and the length of a range that cannot be read.
    pub(super) fn file(
        &mut self,
        write: &Write,
        origin: Origin<'_>,
        failed: impl Fn(u64, u64, io::Error) -> CommitError,
    ) -> Result<(), CommitError> {
        let end = write.range.len_bytes;
        let mapped = match self.method {
            Method::Map => self.map(write.range, origin),
            Method::Copy => None,
        };
        let mapped = mapped.unwrap_or(Span::new(end, end));
        self.fill(write, Span::new(0, mapped.start), origin, &failed)?;
        self.fill(write, Span::new(mapped.end, end), origin, &failed)
    }

    /// Has the memory read `part` of the range of `write` from the file.
    fn fill(
        &mut self,
        write: &Write,
        part: Span,
        origin: Origin<'_>,
        failed: &impl Fn(u64, u64, io::Error) -> CommitError,
    ) -> Result<(), CommitError> {
        let len_bytes = part.end.saturating_sub(part.start);
        if len_bytes == 0 {
            return Ok(());
        }
        let what = write.kind;
        let at = Gpa(write.range.start.0.saturating_add(part.start)); // RAM does not wrap
        let offset = origin.offset.saturating_add(part.start);
        let range = FileRange {
            file: origin.file,
            offset,
            len_bytes,
        };
        let filled = self.memory.fill(at, range);
        filled.map_err(|error| match error {
            FillError::Read { offset: at, source } => {
                let left = offset.saturating_add(len_bytes).saturating_sub(at);
                failed(at, left, source)
            }
            FillError::Memory(source) => CommitError::Memory { what, source },
            _ => CommitError::Memory {
                what,
                source: MemoryError::Backend { at },
            },
        })?;
        self.written_bytes = self.written_bytes.saturating_add(len_bytes);
        Ok(())
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

    /// Copies the range of `write` from `read`, which gets the offset in the range, one buffer at a
    /// time.
    fn copy(
        &mut self,
        write: &Write,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let len = usize::try_from(write.range.len_bytes).unwrap_or(usize::MAX);
        let mut buffer = vec![0; len.min(BUFFER_BYTES)];
        let mut at = 0_u64;
        while let Some(left) = write
            .range
            .len_bytes
            .checked_sub(at)
            .filter(|&left| left > 0)
        {
            let step = usize::try_from(left).unwrap_or(usize::MAX);
            let step = step.min(buffer.len());
            let (piece, _) = buffer.split_at_mut(step);
            read(at, piece)?;
            self.put(write, at, piece)?;
            at = at.saturating_add(piece.len() as u64);
        }
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

/// Length of the buffer for bytes that are neither in memory nor in a file as they are.
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
