//! Why guest memory cannot be accessed.

use pvh_abi::Gpa;

/// Why an access to guest memory was refused; nothing has been written then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Some byte of the range is not guest RAM, or the range runs past the end of the address
    /// space.
    #[error("{len_bytes} bytes at {at} are not all guest RAM")]
    NotRam {
        /// Start of the range.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// An atomic word is not aligned to its size.
    #[error("the {size_bytes}-byte word at {at} is not aligned")]
    Misaligned {
        /// Address of the word.
        at: Gpa,
        /// Its size in bytes, 4 or 8.
        size_bytes: u64,
    },
    /// The memory has no atomic words: it can be loaded into, and not shared with a running guest.
    #[error("this memory has no atomic words, and one was needed at {at}")]
    NoWords {
        /// Where it was needed.
        at: Gpa,
    },
    /// The backend itself failed (an I/O error under file-backed RAM, for example).
    #[error("the memory backend failed at {at}")]
    Backend {
        /// Where it failed.
        at: Gpa,
    },
}

impl MemoryError {
    /// The refusal of a range that came as a `usize` length.
    pub(crate) fn not_ram(at: Gpa, len_bytes: usize) -> Self {
        let len_bytes = u64::try_from(len_bytes).unwrap_or(u64::MAX);
        Self::NotRam { at, len_bytes }
    }

    /// Refuses a word that is not aligned to its size.
    pub(crate) fn check_aligned(at: Gpa, size_bytes: usize) -> Result<(), Self> {
        let size_bytes = u64::try_from(size_bytes).unwrap_or(u64::MAX);
        if at.is_aligned(size_bytes) {
            return Ok(());
        }
        Err(Self::Misaligned { at, size_bytes })
    }
}
