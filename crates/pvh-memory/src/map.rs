//! Mapping a range of a file into guest memory, and reading it straight into guest memory.

use std::{
    fs::File,
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt},
};

use pvh_abi::Gpa;

use crate::{GuestMemory, MemoryError};

/// A range of an open file. To be mapped, it must be made of whole pages.
#[derive(Clone, Copy, Debug)]
pub struct FileRange<'fd> {
    /// The file, open for reading.
    pub file: BorrowedFd<'fd>,
    /// Where the range begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// Why a file range was not mapped; guest memory is as it was, but for [`MapError::Host`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The backend cannot map files at all: copy instead.
    #[error("this guest memory cannot map files")]
    Unsupported,
    /// Address, offset or length is not a multiple of the page size.
    #[error("the range at {at} is not made of whole pages")]
    Misaligned {
        /// Where it was to be mapped.
        at: Gpa,
    },
    /// Some byte of the range is not guest RAM.
    #[error("{len_bytes} bytes at {at} are not all guest RAM")]
    NotRam {
        /// Where it was to be mapped.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// The mappings that the host allows this process are needed elsewhere: copy instead.
    #[error("the file cannot be mapped at {at}: the process has too many mappings")]
    Exhausted {
        /// Where the range was to be mapped.
        at: Gpa,
    },
    /// The host refused the mapping. The range may have lost its contents and then reads zeros:
    /// write it anew.
    #[error("the host refuses to map the file at {at}")]
    Host {
        /// Where it was to be mapped.
        at: Gpa,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Why a file range was not read into guest memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The guest memory refused. After [`MemoryError::NotRam`], nothing has been written.
    #[error("the file cannot be read into guest memory")]
    Memory(#[source] MemoryError),
    /// The file could not be read, or ends too early (`UnexpectedEof`). Some bytes before this one
    /// may have been written.
    #[error("the file cannot be read at offset {offset:#x}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Reads `range` into guest memory through a buffer of at most [`BUFFER_BYTES`].
pub(crate) fn fill_by_buffer<M: GuestMemory + ?Sized>(
    memory: &M,
    at: Gpa,
    range: FileRange<'_>,
) -> Result<(), FillError> {
    let FileRange {
        file,
        offset,
        len_bytes,
    } = range;
    if !memory.is_ram(at, len_bytes) {
        return Err(FillError::Memory(MemoryError::NotRam { at, len_bytes }));
    }
    let failed = |offset| move |source| FillError::Read { offset, source };
    let file = file.try_clone_to_owned().map_err(failed(offset))?;
    let file = File::from(file);
    let buffer_len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
    let mut buffer = vec![0; buffer_len.min(BUFFER_BYTES)];
    let mut done = 0_u64;
    while let Some(left) = len_bytes.checked_sub(done).filter(|&left| left > 0) {
        let step = usize::try_from(left).unwrap_or(usize::MAX);
        let step = step.min(buffer.len());
        let (piece, _) = buffer.split_at_mut(step);
        // An offset past the end of all files reads nothing.
        let from = offset.saturating_add(done);
        file.read_exact_at(piece, from).map_err(failed(from))?;
        let to = Gpa(at.0.saturating_add(done)); // RAM does not wrap
        memory.write(to, piece).map_err(FillError::Memory)?;
        done = done.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// The longest buffer between a file and guest memory.
const BUFFER_BYTES: usize = 256 << 10;
