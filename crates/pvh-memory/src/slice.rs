//! Guest memory in one slice of bytes.

use core::cell::Cell;

use pvh_abi::Gpa;

use crate::{GuestMemory, MemoryError, WordOp};

/// Guest memory in a borrowed slice: one range of RAM, for one thread.
///
/// It is not `Sync`, so that no other thread can act between the steps of an atomic word operation.
#[derive(Debug)]
pub struct SliceMemory<'bytes> {
    base: Gpa,
    bytes: &'bytes [Cell<u8>],
}

impl<'bytes> SliceMemory<'bytes> {
    /// Makes `bytes` the RAM at `base`; bytes past the end of the address space are out of reach.
    #[must_use]
    pub fn new(base: Gpa, bytes: &'bytes mut [u8]) -> Self {
        let bytes = Cell::from_mut(bytes).as_slice_of_cells();
        Self { base, bytes }
    }

    /// The bytes of a range; none of them when one lies outside.
    fn range(&self, at: Gpa, len_bytes: usize) -> Result<&'bytes [Cell<u8>], MemoryError> {
        let wanted = || {
            let last = u64::try_from(len_bytes.checked_sub(1)?).ok()?;
            at.checked_add(last)?;
            let start = usize::try_from(at.checked_offset_from(self.base)?).ok()?;
            self.bytes.get(start..start.checked_add(len_bytes)?)
        };
        match len_bytes {
            0 => Ok(&[]),
            _ => wanted().ok_or(MemoryError::not_ram(at, len_bytes)),
        }
    }

    /// Reads a word, replaces it by what `apply` returns, and returns the old value.
    fn word<const N: usize>(
        &self,
        at: Gpa,
        apply: impl FnOnce([u8; N]) -> Option<[u8; N]>,
    ) -> Result<[u8; N], MemoryError> {
        MemoryError::check_aligned(at, N)?;
        let cells = self.range(at, N)?;
        let mut before = [0; N];
        for (byte, cell) in before.iter_mut().zip(cells) {
            *byte = cell.get();
        }
        for (cell, byte) in cells.iter().zip(apply(before).unwrap_or(before)) {
            cell.set(byte);
        }
        Ok(before)
    }
}

impl GuestMemory for SliceMemory<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        usize::try_from(len_bytes).is_ok_and(|len| self.range(at, len).is_ok())
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let cells = self.range(at, buf.len())?;
        for (byte, cell) in buf.iter_mut().zip(cells) {
            *byte = cell.get();
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let cells = self.range(at, bytes.len())?;
        for (cell, byte) in cells.iter().zip(bytes) {
            cell.set(*byte);
        }
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.word(at, |now| {
            Some(op.apply(u32::from_le_bytes(now))?.to_le_bytes())
        })
        .map(u32::from_le_bytes)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.word(at, |now| {
            Some(op.apply(u64::from_le_bytes(now))?.to_le_bytes())
        })
        .map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gpa, GuestMemory, SliceMemory};

    #[test]
    fn the_bytes_are_the_caller_s_own() {
        let mut bytes = [0; 16];
        let memory = SliceMemory::new(Gpa(0x1_0000_0000), &mut bytes);
        assert_eq!(memory.write(Gpa(0x1_0000_0004), b"guest"), Ok(()));
        assert!(!memory.is_ram(Gpa(0xffff_ffff), 1) && !memory.is_ram(Gpa(0x1_0000_0010), 1));
        assert_eq!(&bytes, b"\0\0\0\0guest\0\0\0\0\0\0\0");
    }

    #[test]
    fn ram_may_end_with_the_address_space_and_goes_no_further() {
        let mut bytes = [0; 16];
        let memory = SliceMemory::new(Gpa(u64::MAX - 7), &mut bytes);
        assert!(memory.is_ram(Gpa(u64::MAX - 7), 8));
        assert!(!memory.is_ram(Gpa(u64::MAX - 7), 9));
        assert!(!memory.is_ram(Gpa(0), 1));
    }
}
