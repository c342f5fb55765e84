use pvh_abi::Gpa;

use crate::image::ImageError;

/// Why the hypercall stubs of an image cannot be told for sure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StubError {
    /// No executable segment has bytes in the file.
    #[error("the image has no executable segment to look for hypercall stubs in")]
    NoCode,
    /// There is more code than any kernel has.
    #[error(
        "the executable segments have {code_bytes} bytes, more than the {} that are searched for hypercall stubs",
        StubError::LIMIT_BYTES
    )]
    TooMuchCode {
        /// How many bytes the executable segments have.
        code_bytes: u64,
    },
    /// A segment runs past the end of the address space, or of what a file can hold.
    #[error("segment {segment} runs past the end of the address space")]
    Wraps {
        /// Which segment, counted from 0.
        segment: usize,
    },
    /// Nothing looks like a stub.
    #[error("no hypercall stub (VMMCALL or VMCALL, then a return) in {code_bytes} bytes of code")]
    NoStub {
        /// How many bytes were looked at.
        code_bytes: u64,
    },
    /// Something looks like a stub, and nothing beside it is the other one.
    #[error("what looks like a hypercall stub at {at} has none of the other kind beside it")]
    NoPair {
        /// Where the first such thing begins, as linked.
        at: Gpa,
    },
    /// There is more than one pair, and nothing tells which is used.
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
    /// How many bytes of executable segments are searched, in all: 256 MiB.
    pub const LIMIT_BYTES: u64 = 256 << 20;
}
