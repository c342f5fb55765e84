//! The trait of guest memory.

use pvh_abi::Gpa;

#[cfg(feature = "std")]
use crate::{FileRange, FillError, MapError, map::fill_by_buffer};
use crate::{MemoryError, WordOp};

/// The memory of a guest: RAM at guest-physical addresses, holes between.
///
/// The guest runs while these methods are called, so they take `&self`, copy bytes, and never hand
/// out a reference into guest memory. An implementation checks the whole range first: a refused
/// access has written nothing.
///
/// Three methods are enough to load a guest and to walk its page tables. The domain, rings and back
/// ends share words with the running guest: for them an implementation has the two atomic methods,
/// which by default refuse.
pub trait GuestMemory {
    /// Tells whether every byte of `len_bytes` at `at` is RAM; true for an empty range.
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool;

    /// Copies `buf.len()` bytes at `at` out of guest memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotRam`] if any byte is outside RAM; `buf` is then unspecified.
    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// Copies `bytes` into guest memory at `at`.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotRam`] if any byte is outside RAM; nothing is written then.
    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError>;

    /// Applies `op` to the 32-bit little-endian word at `at` and returns its previous value.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Misaligned`] unless `at` is a multiple of 4, [`MemoryError::NotRam`] outside
    /// RAM; [`MemoryError::NoWords`], by default, if this memory has no atomic words.
    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let _ = op;
        Err(MemoryError::NoWords { at })
    }

    /// Applies `op` to the 64-bit little-endian word at `at` and returns its previous value.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Misaligned`] unless `at` is a multiple of 8, [`MemoryError::NotRam`] outside
    /// RAM; [`MemoryError::NoWords`], by default, if this memory has no atomic words.
    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let _ = op;
        Err(MemoryError::NoWords { at })
    }

    /// Fills `len_bytes` at `at` with zeros.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotRam`] if any byte is outside RAM; nothing is written then.
    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        if !self.is_ram(at, len_bytes) {
            return Err(MemoryError::NotRam { at, len_bytes });
        }
        let mut done = 0_u64;
        while let Some(left) = len_bytes.checked_sub(done).filter(|&left| left > 0) {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            let chunk = ZEROS.get(..step).unwrap_or(&ZEROS);
            let here = at
                .checked_add(done)
                .ok_or(MemoryError::NotRam { at, len_bytes })?;
            self.write(here, chunk)?;
            done = done.saturating_add(chunk.len() as u64);
        }
        Ok(())
    }

    /// Reads a range of a file into guest memory at `at`. It does not depend on the file's position.
    ///
    /// By default, the bytes go through a buffer of at most 256 KiB. A backend that can have the
    /// host read into its memory overrides this, and saves one copy. The thread waits as long as
    /// the file does.
    ///
    /// # Errors
    ///
    /// [`FillError`]. It refuses a range that is not all RAM before the first write; after another
    /// error, some of the bytes may have been written.
    #[cfg(feature = "std")]
    fn fill(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        fill_by_buffer(self, at, range)
    }

    /// Maps a range of a file at `at` in place of the RAM there, as a private copy-on-write
    /// mapping. The range must be made of whole pages, in the file and in guest memory.
    ///
    /// Optional: a backend that cannot map keeps this default, and the caller copies instead.
    ///
    /// # Errors
    ///
    /// [`MapError::Unsupported`] by default; see [`MapError`] for the others. Guest memory is as it
    /// was then, but after [`MapError::Host`] the range may read zeros.
    #[cfg(feature = "std")]
    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        let _ = (at, range);
        Err(MapError::Unsupported)
    }
}

/// A reference to guest memory is guest memory too.
impl<M: GuestMemory + ?Sized> GuestMemory for &M {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        (**self).is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        (**self).write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        (**self).atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        (**self).atomic_u64(at, op)
    }

    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        (**self).zero(at, len_bytes)
    }

    #[cfg(feature = "std")]
    fn fill(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        (**self).fill(at, range)
    }

    #[cfg(feature = "std")]
    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        (**self).map_file(at, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that an embedder implements.
    struct Nothing;

    impl GuestMemory for Nothing {
        fn is_ram(&self, _: Gpa, len_bytes: u64) -> bool {
            len_bytes == 0
        }
        fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
            Err(MemoryError::not_ram(at, buf.len()))
        }
        fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
            Err(MemoryError::not_ram(at, bytes.len()))
        }
    }

    #[test]
    fn memory_of_three_methods_refuses_words_and_says_why() {
        let at = Gpa(0x1000);
        let refused = Err(MemoryError::NoWords { at });
        assert_eq!(Nothing.atomic_u32(at, WordOp::Load), refused);
        let refused = Err(MemoryError::NoWords { at });
        assert_eq!(Nothing.atomic_u64(at, WordOp::Load), refused);
    }
}
