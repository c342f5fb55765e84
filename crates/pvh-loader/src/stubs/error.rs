//! Why the hypercall stubs of an image cannot be determined.

use pvh_abi::Gpa;

use crate::image::ImageError;

/// Why the hypercall stubs of an image cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StubError {
    /// No executable segment has bytes in the file.
    #[error("the image has no executable segment to look for hypercall stubs in")]
    NoCode,
    /// There is more code than the search reads.
    #[error(
        "the executable segments have {code_bytes} bytes, and at most {} are searched for hypercall stubs",
        StubError::LIMIT_BYTES
    )]
    TooMuchCode {
        /// How many bytes the executable segments have.
        code_bytes: u64,
    },
    /// A segment runs past the end of the address space or the largest file offset.
    #[error("segment {segment} runs past the end of the address space")]
    Wraps {
        /// Which segment, counted from 0.
        segment: usize,
    },
    /// The code has no stub.
    #[error("no hypercall stub (VMMCALL or VMCALL, then a return) in {code_bytes} bytes of code")]
    NoStub {
        /// How many bytes were searched.
        code_bytes: u64,
    },
    /// A stub has no partner with the other instruction beside it.
    #[error("the hypercall stub at {at} has no stub with the other instruction beside it")]
    NoPair {
        /// Where the first such stub begins, as linked.
        at: Gpa,
    },
    /// There is more than one pair, and the image does not say which it uses.
    #[error("more than one pair of hypercall stubs: at {first} and at {second}")]
    Several {
        /// The instruction of the first pair, as linked.
        first: Gpa,
        /// The instruction of the next pair, as linked.
        second: Gpa,
    },
    /// The image cannot be read.
    #[error("the image's code cannot be read")]
    Read(#[source] ImageError),
}

impl StubError {
    /// The most bytes of executable segments that are searched: 256 MiB.
    pub const LIMIT_BYTES: u64 = 256 << 20;
}
