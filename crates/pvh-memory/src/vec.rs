//! Guest memory in vectors of words.

mod frames;

use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use pvh_abi::Gpa;

use crate::{GuestMemory, MemoryError, WordOp};
use frames::{Removed, Spare};

/// Guest memory that owns its bytes: any number of RAM ranges, shared by any number of threads.
///
/// For tests and for guests that are not run. Bytes are kept in 64-bit atomic words, so that
/// threads may do what guests do: write next to each other, and race on the same word.
#[derive(Debug)]
pub struct VecMemory {
    /// By address, none empty, none touching the next.
    ranges: Vec<Range>,
    spare: Box<[Spare]>,
    /// Whether frames were ever added or removed, so that an access has to look at more than the
    /// ranges.
    is_changed: AtomicBool,
}

/// Why RAM was not made of a list of ranges.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RangesError {
    /// The range runs past the end of the address space.
    #[error("{len_bytes} bytes at {at} run past the end of the address space")]
    PastTheEnd {
        /// Start of the range.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Two ranges share a byte.
    #[error("the range at {at} overlaps the range before it")]
    Overlap {
        /// Start of the second one.
        at: Gpa,
    },
    /// The host's address space cannot hold the range.
    #[error("{len_bytes} bytes at {at} are more than this host can hold")]
    TooLarge {
        /// Start of the range.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
}

/// One range of RAM: the bytes from `start` to `last`, both included, in words whose first one lies
/// at `start` rounded down to 8.
#[derive(Debug)]
struct Range {
    start: u64,
    last: u64,
    words: Box<[AtomicU64]>,
    removed: Removed,
}

impl VecMemory {
    /// Makes zeroed RAM of a list of ranges, in any order; empty ones are skipped and touching ones
    /// are joined.
    ///
    /// All of it is allocated and written at once.
    ///
    /// # Errors
    ///
    /// See [`RangesError`].
    pub fn zeroed(ranges: &[(Gpa, u64)]) -> Result<Self, RangesError> {
        let mut bounds: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for &(at, len_bytes) in ranges {
            let Some(reach) = len_bytes.checked_sub(1) else {
                continue;
            };
            let last = at.checked_add(reach);
            let last = last.ok_or(RangesError::PastTheEnd { at, len_bytes })?;
            bounds.push((at.0, last.0));
        }
        bounds.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(bounds.len());
        for (start, last) in bounds {
            match joined.last_mut() {
                Some((_, end)) if start <= *end => {
                    return Err(RangesError::Overlap { at: Gpa(start) });
                }
                Some((_, end)) if start.checked_sub(1) == Some(*end) => *end = last,
                _ => joined.push((start, last)),
            }
        }
        let ranges = joined.into_iter().map(|(start, last)| {
            Range::zeroed(start, last).ok_or(RangesError::TooLarge {
                at: Gpa(start),
                len_bytes: last.wrapping_sub(start).saturating_add(1),
            })
        });
        Ok(Self::of(ranges.collect::<Result<_, _>>()?))
    }

    /// Makes `bytes` the RAM at `base`; bytes past the end of the address space are dropped.
    #[must_use]
    pub fn from_bytes(base: Gpa, bytes: &[u8]) -> Self {
        let room = u64::MAX.wrapping_sub(base.0);
        let reach = bytes.len().checked_sub(1).map(|reach| {
            let reach = u64::try_from(reach).unwrap_or(u64::MAX);
            reach.min(room)
        });
        let range = reach.and_then(|reach| Range::zeroed(base.0, base.0.checked_add(reach)?));
        if let Some(range) = &range {
            range.write(base.0, bytes);
        }
        Self::of(range.into_iter().collect())
    }

    fn of(ranges: Vec<Range>) -> Self {
        Self {
            ranges,
            spare: Box::default(),
            is_changed: AtomicBool::new(false),
        }
    }

    /// Returns the RAM ranges that it was made of, by address, as start and length in bytes.
    pub fn ram_ranges(&self) -> impl Iterator<Item = (Gpa, u64)> + '_ {
        let len_bytes = |range: &Range| range.last.wrapping_sub(range.start).saturating_add(1);
        let ranges = self.ranges.iter();
        ranges.map(move |range| (Gpa(range.start), len_bytes(range)))
    }

    /// Returns the bytes of all these ranges, by address; a frame that was removed reads as zeros.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for range in &self.ranges {
            let before = bytes.len();
            let len = usize::try_from(range.last.wrapping_sub(range.start)).unwrap_or(usize::MAX);
            bytes.resize(before.saturating_add(len).saturating_add(1), 0);
            if let Some(tail) = bytes.get_mut(before..) {
                range.read(range.start, tail);
            }
        }
        bytes
    }

    /// The range that holds every byte of an access that is not empty.
    fn range(&self, at: Gpa, len_bytes: u64) -> Result<&Range, MemoryError> {
        let found = || {
            let last = at.checked_add(len_bytes.checked_sub(1)?)?.0;
            let after = self.ranges.partition_point(|range| range.start <= at.0);
            let range = self.ranges.get(after.checked_sub(1)?)?;
            (last <= range.last).then_some(range)
        };
        found().ok_or(MemoryError::NotRam { at, len_bytes })
    }

    /// The word that holds the `size_bytes` at `at`, 4 or 8, and their place in it.
    fn word(&self, at: Gpa, size_bytes: usize) -> Result<(&AtomicU64, u32), MemoryError> {
        MemoryError::check_aligned(at, size_bytes)?;
        let not_ram = MemoryError::not_ram(at, size_bytes);
        let (range, inner) = if self.is_changed.load(SeqCst) {
            // Aligned, so it does not leave its frame.
            let reach = u64::try_from(size_bytes.saturating_sub(1)).unwrap_or(u64::MAX);
            let piece = self.piece(at.0);
            let piece = piece.filter(|(_, inner, last)| last.wrapping_sub(*inner) >= reach);
            let (range, inner, _) = piece.ok_or(not_ram)?;
            (range, inner)
        } else {
            (
                self.range(at, u64::try_from(size_bytes).unwrap_or(u64::MAX))?,
                at.0,
            )
        };
        let (mut words, skip) = range.from(inner).ok_or(not_ram)?;
        Ok((words.next().ok_or(not_ram)?, bits(skip)))
    }
}

/// RAM from address 0 on.
impl From<Vec<u8>> for VecMemory {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_bytes(Gpa(0), &bytes)
    }
}

impl From<VecMemory> for Vec<u8> {
    fn from(memory: VecMemory) -> Self {
        memory.into_bytes()
    }
}

impl GuestMemory for VecMemory {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        if len_bytes == 0 {
            return true;
        }
        match usize::try_from(len_bytes) {
            Ok(len) if self.is_changed.load(SeqCst) => self.pieces(at, len).is_some(),
            _ => self.range(at, len_bytes).is_ok(),
        }
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        if self.is_changed.load(SeqCst) {
            let not_ram = MemoryError::not_ram(at, buf.len());
            for (range, inner, place) in self.pieces(at, buf.len()).ok_or(not_ram)? {
                range.read(inner, buf.get_mut(place).ok_or(not_ram)?);
            }
        } else if !buf.is_empty() {
            let len_bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
            self.range(at, len_bytes)?.read(at.0, buf);
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        if self.is_changed.load(SeqCst) {
            let not_ram = MemoryError::not_ram(at, bytes.len());
            for (range, inner, place) in self.pieces(at, bytes.len()).ok_or(not_ram)? {
                range.write(inner, bytes.get(place).ok_or(not_ram)?);
            }
        } else if !bytes.is_empty() {
            let len_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.range(at, len_bytes)?.write(at.0, bytes);
        }
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let (word, shift) = self.word(at, size_of::<u32>())?;
        let whole = u64::from(u32::MAX).wrapping_shl(shift);
        let half = |word: u64| low_half(word.wrapping_shr(shift));
        let before = word.fetch_update(SeqCst, SeqCst, |now| {
            let new = op.apply(half(now))?;
            Some((now & !whole) | u64::from(new).wrapping_shl(shift))
        });
        Ok(half(before.unwrap_or_else(|unchanged| unchanged)))
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let (word, _) = self.word(at, size_of::<u64>())?;
        let before = word.fetch_update(SeqCst, SeqCst, |now| op.apply(now));
        Ok(before.unwrap_or_else(|unchanged| unchanged))
    }
}

impl Range {
    /// A zeroed range; `None` when the host cannot count its words.
    fn zeroed(start: u64, last: u64) -> Option<Self> {
        let words = (last / WORD_BYTES).checked_sub(start / WORD_BYTES)?;
        let words = usize::try_from(words).ok()?.checked_add(1)?;
        words.checked_mul(size_of::<AtomicU64>())?;
        let mut zeroed = Vec::new();
        zeroed.try_reserve_exact(words).ok()?;
        zeroed.resize_with(words, AtomicU64::default);
        Some(Self {
            start,
            last,
            words: zeroed.into_boxed_slice(),
            removed: Removed::none(start, last)?,
        })
    }

    /// The words from the one that holds `at` on, and where in that one `at` is.
    fn from(&self, at: u64) -> Option<(core::slice::Iter<'_, AtomicU64>, usize)> {
        let index = (at / WORD_BYTES).checked_sub(self.start / WORD_BYTES)?;
        let words = self.words.get(usize::try_from(index).ok()?..)?;
        let skip = usize::try_from(at % WORD_BYTES).ok()?;
        Some((words.iter(), skip))
    }

    /// Copies out from `at`, which lies in the range, as far as the range goes.
    fn read(&self, at: u64, buf: &mut [u8]) {
        let Some((mut words, skip)) = self.from(at) else {
            return;
        };
        let (head, rest) = buf.split_at_mut(head_len(skip, buf.len()));
        if !head.is_empty()
            && let Some(word) = words.next()
        {
            let bytes = word.load(Relaxed).to_le_bytes();
            for (to, from) in head.iter_mut().zip(bytes.iter().skip(skip)) {
                *to = *from;
            }
        }
        for (chunk, word) in rest.chunks_mut(size_of::<u64>()).zip(words) {
            let bytes = word.load(Relaxed).to_le_bytes();
            match <&mut [u8; size_of::<u64>()]>::try_from(&mut *chunk) {
                Ok(whole) => *whole = bytes,
                Err(_) => chunk
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = from),
            }
        }
    }

    /// Copies in from `at`, which lies in the range, as far as the range goes.
    fn write(&self, at: u64, bytes: &[u8]) {
        let Some((mut words, skip)) = self.from(at) else {
            return;
        };
        let (head, rest) = bytes.split_at(head_len(skip, bytes.len()));
        if !head.is_empty()
            && let Some(word) = words.next()
        {
            merge(word, skip, head);
        }
        for (chunk, word) in rest.chunks(size_of::<u64>()).zip(words) {
            match <[u8; size_of::<u64>()]>::try_from(chunk) {
                Ok(whole) => word.store(u64::from_le_bytes(whole), Relaxed),
                Err(_) => merge(word, 0, chunk),
            }
        }
    }
}

/// Replaces some bytes of a word and keeps what other threads write into its other bytes meanwhile.
fn merge(word: &AtomicU64, skip: usize, bytes: &[u8]) {
    // The closure always answers, so the word is always replaced.
    let _ = word.fetch_update(Relaxed, Relaxed, |now| {
        let mut merged = now.to_le_bytes();
        for (to, from) in merged.iter_mut().skip(skip).zip(bytes) {
            *to = *from;
        }
        Some(u64::from_le_bytes(merged))
    });
}

/// How many of `len` bytes lie before the next word, `skip` bytes into this one.
fn head_len(skip: usize, len: usize) -> usize {
    match skip {
        0 => 0,
        _ => size_of::<u64>().saturating_sub(skip).min(len),
    }
}

/// The number of bits in some bytes of a word.
fn bits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(0).saturating_mul(u8::BITS)
}

/// The low 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
fn low_half(word: u64) -> u32 {
    word as u32
}

const WORD_BYTES: u64 = 8;

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::{Gpa, GuestMemory, RangesError, VecMemory};

    #[test]
    fn bytes_go_in_and_come_out_the_same() {
        for len in 0..40_u8 {
            for base in [0, 3, 0x1000, u64::MAX - 39] {
                let bytes: Vec<u8> = (0..len).collect();
                let memory = VecMemory::from_bytes(Gpa(base), &bytes);
                assert_eq!(memory.into_bytes(), bytes, "{len} bytes at {base:#x}");
            }
        }
        assert_eq!(Vec::from(VecMemory::from(vec![7_u8; 9])), [7; 9]);
    }

    #[test]
    fn ranges_are_sorted_joined_and_kept_apart_by_holes() {
        let ranges = [
            (Gpa(0x3000), 5),
            (Gpa(0x1005), 3),
            (Gpa(9), 0),
            (Gpa(0x1000), 5),
        ];
        let memory = VecMemory::zeroed(&ranges).unwrap();
        let ram: Vec<_> = memory.ram_ranges().collect();
        assert_eq!(ram, [(Gpa(0x1000), 8), (Gpa(0x3000), 5)]);
    }

    #[test]
    fn ranges_in_one_word_do_not_meet() {
        let memory = VecMemory::zeroed(&[(Gpa(0), 3), (Gpa(5), 3)]).unwrap();
        assert!(memory.is_ram(Gpa(0), 3) && memory.is_ram(Gpa(5), 3));
        assert!(
            !memory.is_ram(Gpa(2), 2) && !memory.is_ram(Gpa(4), 2) && !memory.is_ram(Gpa(8), 1)
        );
        assert!(!memory.is_ram(Gpa(0), 8));
    }

    #[test]
    fn overlapping_and_wrapping_ranges_are_refused() {
        let overlap = VecMemory::zeroed(&[(Gpa(4), 4), (Gpa(0), 5)]).unwrap_err();
        assert_eq!(overlap, RangesError::Overlap { at: Gpa(4) });
        let at = Gpa(u64::MAX);
        let past = VecMemory::zeroed(&[(at, 2)]).unwrap_err();
        assert_eq!(past, RangesError::PastTheEnd { at, len_bytes: 2 });
        let len_bytes = u64::MAX;
        let large = VecMemory::zeroed(&[(Gpa(0), len_bytes)]).unwrap_err();
        assert_eq!(
            large,
            RangesError::TooLarge {
                at: Gpa(0),
                len_bytes
            }
        );
    }

    #[test]
    fn ram_may_end_with_the_address_space_and_goes_no_further() {
        let memory = VecMemory::zeroed(&[(Gpa(u64::MAX - 7), 8), (Gpa(0), 8)]).unwrap();
        assert!(memory.is_ram(Gpa(u64::MAX - 7), 8) && memory.is_ram(Gpa(u64::MAX), 1));
        assert!(!memory.is_ram(Gpa(u64::MAX), 2));
        assert_eq!(memory.write(Gpa(u64::MAX), b"x"), Ok(()));
        let dropped = VecMemory::from_bytes(Gpa(u64::MAX), b"xyz");
        assert_eq!(dropped.into_bytes(), b"x");
    }
}
