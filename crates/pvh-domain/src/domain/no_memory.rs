//! Guest memory for the calls that see none.

use core::ops::Range;

use pvh_abi::Gpa;
use pvh_memory::{FrameError, Frames, GuestMemory, MemoryError, WordOp};

/// Guest memory without RAM.
pub(super) struct NoMemory;

impl GuestMemory for NoMemory {
    fn is_ram(&self, _: Gpa, _: u64) -> bool {
        false
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        Err(not_ram(at, buf.len() as u64))
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        Err(not_ram(at, bytes.len() as u64))
    }

    fn atomic_u32(&self, at: Gpa, _: WordOp<u32>) -> Result<u32, MemoryError> {
        Err(not_ram(at, 4))
    }

    fn atomic_u64(&self, at: Gpa, _: WordOp<u64>) -> Result<u64, MemoryError> {
        Err(not_ram(at, 8))
    }

    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        Err(not_ram(at, len_bytes))
    }
}

impl Frames for NoMemory {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        Err(FrameError::OutOfReach { gfn: gfns.start })
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        Err(FrameError::OutOfReach { gfn: gfns.start })
    }
}

const fn not_ram(at: Gpa, len_bytes: u64) -> MemoryError {
    MemoryError::NotRam { at, len_bytes }
}
