//! Atomic operations on words.

use core::{
    ops::{BitAnd, BitOr},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

/// What an atomic access does to a 32- or 64-bit word; every operation is sequentially consistent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WordOp<T> {
    /// Reads the word.
    Load,
    /// Replaces the word.
    Swap(T),
    /// Clears the bits that are 0 in the operand.
    And(T),
    /// Sets the bits that are 1 in the operand.
    Or(T),
    /// Replaces the word by `new` if it equals `expected`.
    CompareExchange {
        /// The value the word must have.
        expected: T,
        /// The value it gets then.
        new: T,
    },
}

impl<T: Copy + Eq + BitAnd<Output = T> + BitOr<Output = T>> WordOp<T> {
    /// Returns the new value of a word that holds `current` now; `None` leaves the word as it is.
    ///
    /// For a backend that has another way to make the change atomic.
    #[must_use]
    pub fn apply(self, current: T) -> Option<T> {
        match self {
            Self::Load => None,
            Self::Swap(new) => Some(new),
            Self::And(mask) => Some(current & mask),
            Self::Or(bits) => Some(current | bits),
            Self::CompareExchange { expected, new } => (current == expected).then_some(new),
        }
    }
}

/// Makes `apply_to` for one width. Guest words are little endian: swapping the bytes of the
/// operands and of the answer is enough on a big-endian host, for every operation works bit by bit.
macro_rules! apply_to {
    ($word:ty, $atomic:ty) => {
        impl WordOp<$word> {
            /// Applies the operation to a word of guest memory, in one step, and returns its
            /// previous value.
            pub fn apply_to(self, word: &$atomic) -> $word {
                <$word>::from_le(match self {
                    Self::Load => word.load(SeqCst),
                    Self::Swap(new) => word.swap(new.to_le(), SeqCst),
                    Self::And(mask) => word.fetch_and(mask.to_le(), SeqCst),
                    Self::Or(bits) => word.fetch_or(bits.to_le(), SeqCst),
                    Self::CompareExchange { expected, new } => word
                        .compare_exchange(expected.to_le(), new.to_le(), SeqCst, SeqCst)
                        .unwrap_or_else(|found| found),
                })
            }
        }
    };
}

apply_to!(u32, AtomicU32);
apply_to!(u64, AtomicU64);

#[cfg(test)]
mod tests {
    use super::{AtomicU32, AtomicU64, SeqCst, WordOp};

    #[test]
    fn applying_to_an_atomic_and_to_a_value_agree() {
        let ops: [WordOp<u64>; 6] = [
            WordOp::Load,
            WordOp::Swap(0x1234),
            WordOp::And(0x0f0f),
            WordOp::Or(0xf000),
            WordOp::CompareExchange {
                expected: 0x00ff,
                new: 7,
            },
            WordOp::CompareExchange {
                expected: 1,
                new: 7,
            },
        ];
        let after = [0x00ff, 0x1234, 0x000f, 0xf0ff, 7, 0x00ff];
        for (op, want) in ops.into_iter().zip(after) {
            let word = AtomicU64::new(0x00ff_u64.to_le());
            assert_eq!(op.apply_to(&word), 0x00ff, "{op:?}");
            assert_eq!(u64::from_le(word.load(SeqCst)), want, "{op:?}");
            assert_eq!(op.apply(0x00ff_u64).unwrap_or(0x00ff), want, "{op:?}");
        }
    }

    #[test]
    fn a_32_bit_word_is_little_endian() {
        let word = AtomicU32::new(0);
        WordOp::Swap(0x0403_0201_u32).apply_to(&word);
        assert_eq!(word.load(SeqCst).to_ne_bytes(), [1, 2, 3, 4]);
    }
}
