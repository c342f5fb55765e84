//! What guest memory was asked and has answered, to and from a trace.

use pvh_abi::Gpa;
use pvh_memory::{FrameError, MemoryError, WordOp};

use crate::trace::wire::{Found, WireFrameError, WireMemoryError, WireOp};

impl<T> From<WordOp<T>> for WireOp<T> {
    fn from(op: WordOp<T>) -> Self {
        match op {
            WordOp::Load => Self::Load,
            WordOp::Swap(new) => Self::Swap(new),
            WordOp::And(mask) => Self::And(mask),
            WordOp::Or(bits) => Self::Or(bits),
            WordOp::CompareExchange { expected, new } => Self::CompareExchange { expected, new },
            _ => Self::Other,
        }
    }
}

impl From<MemoryError> for WireMemoryError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::NotRam { at, len_bytes } => Self::NotRam {
                at: at.0,
                len_bytes,
            },
            MemoryError::Misaligned { at, size_bytes } => Self::Misaligned {
                at: at.0,
                size_bytes,
            },
            MemoryError::Backend { at } => Self::Backend { at: at.0 },
            _ => Self::Backend { at: u64::MAX },
        }
    }
}

impl From<WireMemoryError> for MemoryError {
    fn from(error: WireMemoryError) -> Self {
        match error {
            WireMemoryError::NotRam { at, len_bytes } => Self::NotRam {
                at: Gpa(at),
                len_bytes,
            },
            WireMemoryError::Misaligned { at, size_bytes } => Self::Misaligned {
                at: Gpa(at),
                size_bytes,
            },
            WireMemoryError::Backend { at } => Self::Backend { at: Gpa(at) },
        }
    }
}

impl From<FrameError> for WireFrameError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Present { gfn } => Self::Present { gfn },
            FrameError::Absent { gfn } => Self::Absent { gfn },
            FrameError::OutOfReach { gfn } => Self::OutOfReach { gfn },
            FrameError::Exhausted { limit } => Self::Exhausted { limit },
            FrameError::Backend { gfn } => Self::Backend { gfn },
            _ => Self::Backend { gfn: u64::MAX },
        }
    }
}

impl From<WireFrameError> for FrameError {
    fn from(error: WireFrameError) -> Self {
        match error {
            WireFrameError::Present { gfn } => Self::Present { gfn },
            WireFrameError::Absent { gfn } => Self::Absent { gfn },
            WireFrameError::OutOfReach { gfn } => Self::OutOfReach { gfn },
            WireFrameError::Exhausted { limit } => Self::Exhausted { limit },
            WireFrameError::Backend { gfn } => Self::Backend { gfn },
        }
    }
}

impl From<Result<(), MemoryError>> for Found {
    fn from(found: Result<(), MemoryError>) -> Self {
        found.map_or_else(Self::from, |()| Self::Done)
    }
}

impl From<Result<(), FrameError>> for Found {
    fn from(found: Result<(), FrameError>) -> Self {
        found.map_or_else(|error| Self::Frame(error.into()), |()| Self::Done)
    }
}

impl From<MemoryError> for Found {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_error_comes_back_as_it_was() {
        for error in [
            MemoryError::NotRam {
                at: Gpa(0x1000),
                len_bytes: 16,
            },
            MemoryError::Misaligned {
                at: Gpa(0x1004),
                size_bytes: 8,
            },
            MemoryError::Backend { at: Gpa(0x2000) },
        ] {
            assert_eq!(MemoryError::from(WireMemoryError::from(error)), error);
        }
    }

    #[test]
    fn a_frame_error_comes_back_as_it_was() {
        for error in [
            FrameError::Present { gfn: 5 },
            FrameError::Absent { gfn: 6 },
            FrameError::OutOfReach { gfn: 7 },
            FrameError::Exhausted { limit: 8 },
            FrameError::Backend { gfn: 9 },
        ] {
            assert_eq!(FrameError::from(WireFrameError::from(error)), error);
        }
    }
}
