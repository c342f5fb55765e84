//! The tests that every adapter passes: RAM is 0..0x1000 and 0x1000..0x2000, a hole follows.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, WordOp};

const RAM_LEN: usize = 0x2000;
const HOLE: Gpa = Gpa(0x2000);

/// Makes one test of each function named, run on the memory that `$with` hands out.
macro_rules! each {
    ($with:path: $($test:ident)+) => {
        $(#[test] fn $test() { $with(&|memory| crate::shared::$test(memory)); })+
    };
}

/// The tests for one thread.
macro_rules! memory_tests {
    ($with:path) => {
        crate::shared::each! { $with:
            what_is_written_is_read_back_and_nothing_else_changes
            a_write_into_a_hole_writes_nothing
            a_read_from_a_hole_is_refused
            a_range_past_the_end_of_the_address_space_is_refused
            an_empty_range_is_granted_anywhere
            an_access_may_cross_ranges_that_touch
            zeroing_clears_the_range_and_nothing_else
            word_operations_do_what_they_say
            a_misaligned_word_is_refused
            a_word_outside_ram_is_refused
            a_reference_is_memory_too
        }
    };
}

/// The tests for memory that threads share.
macro_rules! shared_memory_tests {
    ($with:path) => {
        crate::shared::each! { $with:
            threads_lose_no_bit_of_a_word
            threads_lose_no_exchange
            threads_that_write_side_by_side_do_not_disturb_each_other
        }
    };
}

pub(crate) use {each, memory_tests, shared_memory_tests};

/// Bytes without zeros, and no two neighbours alike.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from((i * 7 + usize::from(seed)) % 251 + 1).unwrap())
        .collect()
}

fn all(memory: &dyn GuestMemory) -> Vec<u8> {
    let mut bytes = vec![0; RAM_LEN];
    memory.read(Gpa(0), &mut bytes).unwrap();
    bytes
}

fn not_ram(at: Gpa, len_bytes: u64) -> MemoryError {
    MemoryError::NotRam { at, len_bytes }
}

/// Every offset in a word, every length up to three words: no byte outside the range changes.
pub(crate) fn what_is_written_is_read_back_and_nothing_else_changes(memory: &dyn GuestMemory) {
    let background = pattern(RAM_LEN, 3);
    for offset in 0x0100..0x0109_u64 {
        for len in 0..26 {
            memory.write(Gpa(0), &background).unwrap();
            let bytes = pattern(len, 101);
            memory.write(Gpa(offset), &bytes).unwrap();
            let mut back = vec![0; len];
            memory.read(Gpa(offset), &mut back).unwrap();
            assert_eq!(back, bytes, "{len} bytes at {offset:#x}");
            let start = usize::try_from(offset).unwrap();
            let mut want = background.clone();
            want[start..start + len].copy_from_slice(&bytes);
            assert!(all(memory) == want, "{len} bytes at {offset:#x}");
        }
    }
}

pub(crate) fn a_write_into_a_hole_writes_nothing(memory: &dyn GuestMemory) {
    let background = pattern(RAM_LEN, 3);
    memory.write(Gpa(0), &background).unwrap();
    for (at, len) in [
        (0x1fff, 2),
        (0x1ff9, 16),
        (0x2000, 1),
        (0, 0x2001),
        (0x0fff, 0x1002),
    ] {
        let refused = not_ram(Gpa(at), len);
        let bytes = vec![0xEE; usize::try_from(len).unwrap()];
        assert!(!memory.is_ram(Gpa(at), len), "{len} bytes at {at:#x}");
        assert_eq!(memory.write(Gpa(at), &bytes), Err(refused));
        assert_eq!(memory.zero(Gpa(at), len), Err(refused));
        assert!(all(memory) == background, "{len} bytes at {at:#x}");
    }
}

pub(crate) fn a_read_from_a_hole_is_refused(memory: &dyn GuestMemory) {
    for (at, len) in [
        (0x1fff, 2),
        (0x1ff9, 16),
        (0x2000, 1),
        (0x2001, 8),
        (0, 0x2001),
    ] {
        let mut buf = vec![0; usize::try_from(len).unwrap()];
        assert_eq!(memory.read(Gpa(at), &mut buf), Err(not_ram(Gpa(at), len)));
    }
    assert!(memory.is_ram(Gpa(0), 0x2000));
    assert!(!memory.is_ram(HOLE, 1));
}

/// RAM begins at 0, so that an address that wraps would hit it.
pub(crate) fn a_range_past_the_end_of_the_address_space_is_refused(memory: &dyn GuestMemory) {
    let mut buf = [0; 16];
    let at = Gpa(u64::MAX - 7);
    assert_eq!(memory.read(at, &mut buf), Err(not_ram(at, 16)));
    assert_eq!(memory.write(at, &buf), Err(not_ram(at, 16)));
    assert_eq!(memory.atomic_u64(at, WordOp::Load), Err(not_ram(at, 8)));
    for (at, len) in [
        (0, u64::MAX),
        (1, u64::MAX),
        (0x1fff, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX, u64::MAX),
    ] {
        assert!(!memory.is_ram(Gpa(at), len), "{len:#x} bytes at {at:#x}");
        assert_eq!(memory.zero(Gpa(at), len), Err(not_ram(Gpa(at), len)));
    }
}

pub(crate) fn an_empty_range_is_granted_anywhere(memory: &dyn GuestMemory) {
    for at in [Gpa(0), Gpa(0x1000), HOLE, Gpa(0x2001), Gpa(u64::MAX)] {
        assert!(memory.is_ram(at, 0), "{at}");
        assert_eq!(memory.read(at, &mut []), Ok(()), "{at}");
        assert_eq!(memory.write(at, &[]), Ok(()), "{at}");
        assert_eq!(memory.zero(at, 0), Ok(()), "{at}");
    }
}

pub(crate) fn an_access_may_cross_ranges_that_touch(memory: &dyn GuestMemory) {
    memory.write(Gpa(0x0ffd), b"across").unwrap();
    let mut buf = [0; 6];
    memory.read(Gpa(0x0ffd), &mut buf).unwrap();
    assert_eq!(&buf, b"across");
    assert!(memory.is_ram(Gpa(0x0fff), 2));
    let word = memory.atomic_u32(Gpa(0x1000), WordOp::Load).unwrap();
    assert_eq!(word.to_le_bytes(), *b"oss\0");
}

pub(crate) fn zeroing_clears_the_range_and_nothing_else(memory: &dyn GuestMemory) {
    let mut want = pattern(RAM_LEN, 9);
    memory.write(Gpa(0), &want).unwrap();
    memory.zero(Gpa(0x0123), 0x1abc).unwrap();
    want[0x0123..0x0123 + 0x1abc].fill(0);
    assert!(all(memory) == want);
}

pub(crate) fn word_operations_do_what_they_say(memory: &dyn GuestMemory) {
    const BEFORE: u64 = 0x8877_6655_4433_2211;
    let cases = [
        (WordOp::Load, BEFORE),
        (WordOp::Swap(0x0102_0304_0506_0708), 0x0102_0304_0506_0708),
        (WordOp::And(0xff00_ff00_ff00_ff00), 0x8800_6600_4400_2200),
        (WordOp::Or(0x8000_0000_0000_0001), BEFORE),
        (WordOp::Or(0x0000_000f_0000_000f), 0x8877_665f_4433_221f),
        (
            WordOp::CompareExchange {
                expected: BEFORE,
                new: 5,
            },
            5,
        ),
        (
            WordOp::CompareExchange {
                expected: 5,
                new: 6,
            },
            BEFORE,
        ),
    ];
    for at in [Gpa(0x0ff8), Gpa(0x1000), Gpa(0x1ff8)] {
        for (op, after) in cases {
            memory.write(at, &BEFORE.to_le_bytes()).unwrap();
            assert_eq!(memory.atomic_u64(at, op), Ok(BEFORE), "{op:?}");
            let mut bytes = [0; 8];
            memory.read(at, &mut bytes).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), after, "{op:?}");
        }
    }
    half_word_operations_do_what_they_say(memory);
}

/// In either half of a 64-bit word, whose other half stays.
fn half_word_operations_do_what_they_say(memory: &dyn GuestMemory) {
    const BEFORE: u32 = 0x4433_2211;
    let cases = [
        (WordOp::Load, BEFORE),
        (WordOp::Swap(0x0506_0708), 0x0506_0708),
        (WordOp::And(0xff00_ff00), 0x4400_2200),
        (WordOp::Or(0x8000_000f), 0xc433_221f),
        (
            WordOp::CompareExchange {
                expected: BEFORE,
                new: 5,
            },
            5,
        ),
        (
            WordOp::CompareExchange {
                expected: 5,
                new: 6,
            },
            BEFORE,
        ),
    ];
    for (half, other) in [
        (0x0ff8, 0x0ffc),
        (0x0ffc, 0x0ff8),
        (0x1000, 0x1004),
        (0x1ffc, 0x1ff8),
    ] {
        for (op, after) in cases {
            memory.write(Gpa(other), b"stay").unwrap();
            memory.write(Gpa(half), &BEFORE.to_le_bytes()).unwrap();
            assert_eq!(memory.atomic_u32(Gpa(half), op), Ok(BEFORE), "{op:?}");
            let mut bytes = [0; 4];
            memory.read(Gpa(half), &mut bytes).unwrap();
            assert_eq!(u32::from_le_bytes(bytes), after, "{op:?}");
            memory.read(Gpa(other), &mut bytes).unwrap();
            assert_eq!(&bytes, b"stay", "{op:?}");
        }
    }
}

/// In RAM and in a hole alike.
pub(crate) fn a_misaligned_word_is_refused(memory: &dyn GuestMemory) {
    let background = all(memory);
    for base in [0x0ff8, 0x1ff8, 0x4000] {
        for at in (1..8).map(|skip| Gpa(base + skip)) {
            let refused = MemoryError::Misaligned { at, size_bytes: 8 };
            assert_eq!(memory.atomic_u64(at, WordOp::Swap(!0)), Err(refused));
            if at.0 % 4 != 0 {
                let refused = MemoryError::Misaligned { at, size_bytes: 4 };
                assert_eq!(memory.atomic_u32(at, WordOp::Swap(!0)), Err(refused));
            }
        }
    }
    assert!(all(memory) == background);
}

pub(crate) fn a_word_outside_ram_is_refused(memory: &dyn GuestMemory) {
    for at in [HOLE, Gpa(0x4000), Gpa(u64::MAX - 7)] {
        assert_eq!(memory.atomic_u32(at, WordOp::Or(1)), Err(not_ram(at, 4)));
        assert_eq!(memory.atomic_u64(at, WordOp::Or(1)), Err(not_ram(at, 8)));
    }
}

pub(crate) fn a_reference_is_memory_too(memory: &dyn GuestMemory) {
    fn fill(memory: impl GuestMemory) {
        memory.write(Gpa(0x10), b"through a reference").unwrap();
        memory.zero(Gpa(0x18), 1).unwrap();
        assert!(memory.is_ram(Gpa(0), 1) && !memory.is_ram(HOLE, 1));
        let before = memory.atomic_u32(Gpa(0x20), WordOp::Or(0));
        assert_eq!(before.unwrap().to_le_bytes(), *b"nce\0");
        assert_eq!(memory.atomic_u64(Gpa(0x28), WordOp::Load), Ok(0));
    }
    fill(memory);
    let mut buf = [0; 12];
    memory.read(Gpa(0x10), &mut buf).unwrap();
    assert_eq!(&buf, b"through \0 re");
}

/// Each thread sets and clears one bit of its own in the same words; nobody else may change it.
pub(crate) fn threads_lose_no_bit_of_a_word(memory: &(dyn GuestMemory + Sync)) {
    let together = std::sync::Barrier::new(4);
    memory.zero(Gpa(0x0ff8), 16).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (half, bit) = (1_u32 << (8 * thread), 1_u64 << (16 * thread));
            let together = &together;
            threads.spawn(move || {
                together.wait();
                for _ in 0..30_000 {
                    let before = memory.atomic_u32(Gpa(0x0ffc), WordOp::Or(half));
                    assert_eq!(before.unwrap() & half, 0);
                    let before = memory.atomic_u64(Gpa(0x1000), WordOp::Or(bit));
                    assert_eq!(before.unwrap() & bit, 0);
                    let before = memory.atomic_u32(Gpa(0x0ffc), WordOp::And(!half));
                    assert_eq!(before.unwrap() & half, half);
                    let before = memory.atomic_u64(Gpa(0x1000), WordOp::And(!bit));
                    assert_eq!(before.unwrap() & bit, bit);
                }
            });
        }
    });
}

/// A counter made of compare-exchange in each half of one 64-bit word.
pub(crate) fn threads_lose_no_exchange(memory: &(dyn GuestMemory + Sync)) {
    const ROUNDS: u32 = 30_000;
    let together = std::sync::Barrier::new(4);
    memory.zero(Gpa(0x1000), 8).unwrap();
    let count = |at: Gpa| {
        together.wait();
        for _ in 0..ROUNDS {
            let mut expected = 0;
            loop {
                let new = expected + 1;
                let op = WordOp::CompareExchange { expected, new };
                match memory.atomic_u32(at, op).unwrap() {
                    found if found == expected => break,
                    found => expected = found,
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for at in [0x1000, 0x1004, 0x1000, 0x1004] {
            let count = &count;
            threads.spawn(move || count(Gpa(at)));
        }
    });
    let both = u64::from(2 * ROUNDS) << 32 | u64::from(2 * ROUNDS);
    assert_eq!(memory.atomic_u64(Gpa(0x1000), WordOp::Load), Ok(both));
}

/// Four threads own the bytes of two words in turn; a write that put back what it once read of a
/// neighbour's byte would be seen by the neighbour.
pub(crate) fn threads_that_write_side_by_side_do_not_disturb_each_other(
    memory: &(dyn GuestMemory + Sync),
) {
    let together = std::sync::Barrier::new(4);
    std::thread::scope(|threads| {
        for (at, len) in [(0x1000, 3), (0x1003, 1), (0x1004, 7), (0x100b, 5)] {
            let together = &together;
            threads.spawn(move || {
                let mut back = [0; 7];
                together.wait();
                for round in 0..30_000_u32 {
                    let [byte, ..] = round.to_le_bytes();
                    let bytes = &[byte; 7][..len];
                    memory.write(Gpa(at), bytes).unwrap();
                    memory.read(Gpa(at), &mut back[..len]).unwrap();
                    assert_eq!(&back[..len], bytes, "round {round} at {at:#x}");
                }
            });
        }
    });
}
