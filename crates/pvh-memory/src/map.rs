//! Mapping a range of a file into guest memory.

use std::{io, os::fd::BorrowedFd};

use pvh_abi::Gpa;

/// A range of an open file.
#[derive(Clone, Copy, Debug)]
pub struct FileRange<'fd> {
    /// The file, open for reading.
    pub file: BorrowedFd<'fd>,
    /// Where the range begins in the file, a multiple of the page size.
    pub offset: u64,
    /// Its length in bytes, a multiple of the page size.
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
