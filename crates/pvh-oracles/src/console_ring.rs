//! The console ring with a guest that writes anything into its page.

use pvh_abi::Gpa;
use pvh_domain::{RingError, parts::console::ConsoleRing};
use pvh_memory::GuestMemory;

use crate::{memory::SparseMemory, tape::Tape};

const PAGE: u64 = 0x4000;

/// Offset of the bytes, their number, offsets of the consumer's and the producer's index.
const INPUT: (u64, u32, u64, u64) = (0, 1024, 3072, 3076);
const OUTPUT: (u64, u32, u64, u64) = (1024, 2048, 3080, 3084);

/// Lets a guest and the back end take turns on one page.
///
/// # Panics
///
/// If bytes are lost, invented or out of order, if an impossible index transfers anything, or if
/// the back end writes a byte that is not its own.
pub fn console_ring(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let memory = SparseMemory::new(&[(PAGE, 4096)], 0);
    let ring = ConsoleRing::new(Gpa(PAGE));
    let mut mark = 0_u8;
    while !tape.is_empty() {
        match tape.below(6) {
            0 => take(&memory, &ring, usize::from(tape.half()) & 0xfff),
            1 => {
                mark = mark.wrapping_add(7);
                give(&memory, &ring, usize::from(tape.half()) & 0xfff, mark);
            }
            2 => {
                // The guest moves an index by any amount.
                let at = [3072, 3076, 3080, 3084][usize::from(tape.below(4))];
                let by = match tape.flag() {
                    true => tape.word(),
                    false => u32::from(tape.half()) & 0xfff,
                };
                let new = word(&memory, at).wrapping_add(by);
                put(&memory, at, &new.to_le_bytes());
            }
            3 => {
                let at = [3072, 3076, 3080, 3084][usize::from(tape.below(4))];
                put(&memory, at, &tape.word().to_le_bytes());
            }
            4 => {
                // The guest prints.
                let text = usize::from(tape.byte());
                let text = tape.bytes(text);
                let (data, size, _, prod) = OUTPUT;
                let from = word(&memory, prod);
                for (&byte, at) in text.iter().zip(from..=u32::MAX) {
                    put(&memory, data + u64::from(at % size), &[byte]);
                }
                let len = u32::try_from(text.len()).unwrap_or(0);
                put(&memory, prod, &from.wrapping_add(len).to_le_bytes());
            }
            _ => {
                let at = u64::from(tape.half()) % 3072;
                put(&memory, at, &[tape.byte()]);
            }
        }
    }
}

fn take(memory: &SparseMemory, ring: &ConsoleRing, room: usize) {
    let (data, size, cons_at, prod_at) = OUTPUT;
    let before = memory.peek(PAGE, 4096);
    let (cons, prod) = (word(memory, cons_at), word(memory, prod_at));
    let used = prod.wrapping_sub(cons);
    let mut buf = vec![0xee; room];
    let reads = memory.accesses().0;
    let answer = ring.take_output(memory, &mut buf);
    let reads = memory.accesses().0 - reads;
    assert!(reads <= 5, "{reads} reads");
    if used > size {
        inconsistent(answer.map(|_| ()), (cons, prod, size));
        assert!(memory.peek(PAGE, 4096) == before);
        assert!(buf.iter().all(|&byte| byte == 0xee));
        return;
    }
    let moved = answer.expect("the indices are possible");
    let want = usize::try_from(used).unwrap_or(0).min(room);
    assert_eq!((moved.len_bytes, moved.notify), (want, want > 0));
    for (&byte, at) in buf.iter().take(want).zip(0_u32..) {
        let at = data + u64::from(cons.wrapping_add(at) % size);
        assert_eq!(byte, before[usize::try_from(at).unwrap_or(0)]);
    }
    assert!(buf.iter().skip(want).all(|&byte| byte == 0xee));
    let want = u32::try_from(want).unwrap_or(0);
    only_index_moved(memory, before, cons_at, cons.wrapping_add(want), &[]);
}

fn give(memory: &SparseMemory, ring: &ConsoleRing, len: usize, mark: u8) {
    let (data, size, cons_at, prod_at) = INPUT;
    let before = memory.peek(PAGE, 4096);
    let (cons, prod) = (word(memory, cons_at), word(memory, prod_at));
    let used = prod.wrapping_sub(cons);
    let text: Vec<u8> = (0..len).map(|at| mark ^ at.to_le_bytes()[0]).collect();
    let answer = ring.push_input(memory, &text);
    if used > size {
        inconsistent(answer.map(|_| ()), (cons, prod, size));
        assert!(memory.peek(PAGE, 4096) == before);
        return;
    }
    let moved = answer.expect("the indices are possible");
    let want = usize::try_from(size - used).unwrap_or(0).min(len);
    assert_eq!((moved.len_bytes, moved.notify), (want, want > 0));
    let places = (0_u32..).map(|at| data + u64::from(prod.wrapping_add(at) % size));
    let written: Vec<(u64, u8)> = places.zip(text).take(want).collect();
    let want = u32::try_from(want).unwrap_or(0);
    only_index_moved(memory, before, prod_at, prod.wrapping_add(want), &written);
}

fn inconsistent(answer: Result<(), RingError>, (cons, prod, size_bytes): (u32, u32, u32)) {
    let wanted = RingError::Inconsistent {
        cons,
        prod,
        size_bytes,
    };
    assert_eq!(answer, Err(wanted));
}

/// Asserts that the page is unchanged, except for an index and the given bytes.
fn only_index_moved(
    memory: &SparseMemory,
    mut before: Vec<u8>,
    at: u64,
    index: u32,
    written: &[(u64, u8)],
) {
    for &(at, byte) in written {
        before[usize::try_from(at).unwrap_or(0)] = byte;
    }
    let at = usize::try_from(at).unwrap_or(0);
    before[at..at + 4].copy_from_slice(&index.to_le_bytes());
    assert!(
        memory.peek(PAGE, 4096) == before,
        "other bytes have changed"
    );
}

fn word(memory: &SparseMemory, at: u64) -> u32 {
    let bytes = memory.peek(PAGE + at, 4);
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn put(memory: &SparseMemory, at: u64, bytes: &[u8]) {
    let written = memory.write(Gpa(PAGE + at), bytes);
    written.expect("the page is there");
}
