//! The ring of the store: bytes that a guest writes, and indices that it corrupts.

use pvh_abi::Gpa;
use pvh_domain::parts::store_ring::StoreRing;
use pvh_memory::GuestMemory;
use pvh_xenstore::MessageType;

use super::setup::{GUEST, check_limits, store};
use crate::{bytes::field, memory::SparseMemory, tape::Tape};

const PAGE: u64 = 0x2000;

/// Sends bytes through the ring as a guest does: in pieces, with indices that it may corrupt.
pub(super) fn wire(tape: &mut Tape<'_>) {
    let (mut store, host) = store();
    let memory = SparseMemory::new(&[(PAGE, 4096)], 0);
    let mut ring = StoreRing::new(Gpa(PAGE), GUEST);
    ring.connect(&memory).expect("the page is there");
    let mut got = Vec::new();
    let mut sent = Vec::new();
    let mut is_spoilt = false;
    while !tape.is_empty() {
        match tape.below(8) {
            0..=4 => {
                let len = usize::from(tape.byte());
                let bytes = tape.bytes(len);
                let used = word(&memory, 2052).wrapping_sub(word(&memory, 2048));
                let room = 1024_usize.saturating_sub(usize::try_from(used).unwrap_or(0));
                let bytes = &bytes[..bytes.len().min(room)];
                push(&memory, bytes);
                sent.extend_from_slice(bytes);
            }
            5 => {
                let at = 2048 + 4 * u64::from(tape.below(7));
                let value = tape.word();
                put(&memory, at, &value.to_le_bytes());
                is_spoilt = true;
            }
            6 => take(&memory, &mut got),
            _ => {
                put(&memory, 2068, &1_u32.to_le_bytes());
                is_spoilt = true;
            }
        }
        let progress = ring.service(&memory, &mut store);
        progress.expect("the page is there");
        check_limits(&store);
        // Nobody takes the host's events, but two watches are all that lies beyond the limit.
        let waiting = store.usage(host).expect("it is connected");
        assert!(
            waiting.memory_bytes <= store.limits().memory_bytes + 1000,
            "{waiting:?}"
        );
        assert!(is_spoilt || word(&memory, 2064) == 3, "no features");
    }
    if is_spoilt {
        return;
    }
    for _ in 0..64 {
        take(&memory, &mut got);
        ring.service(&memory, &mut store)
            .expect("the page is there");
    }
    if ring.is_broken() {
        return assert!(has_long_payload(&sent), "the guest kept the protocol");
    }
    // Each whole request has had its reply, in order.
    let mut wanted = messages(&sent).map(|(_, id, ..)| id);
    for (kind, id, len) in messages(&got) {
        assert!(len <= 4096);
        if kind != u64::from(MessageType::WATCH_EVENT.0) {
            assert_eq!(Some(id), wanted.next(), "a reply to nothing");
        }
    }
    assert_eq!(wanted.next(), None, "a request without reply");
}

/// Kind, id and payload length of the whole messages in a stream.
fn messages(stream: &[u8]) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let read = |offset| field(stream, at + offset, 4);
        let (kind, id, len) = (read(0)?, read(4)?, read(12)?);
        at += 16 + len;
        (at <= stream.len() as u64).then_some((kind, id, len))
    })
}

fn has_long_payload(stream: &[u8]) -> bool {
    let mut at = 0;
    while let Some(len) = field(stream, at + 12, 4) {
        if len > 4096 {
            return true;
        }
        at += 16 + len;
    }
    false
}

fn push(memory: &SparseMemory, bytes: &[u8]) {
    let prod = word(memory, 2052);
    for (&byte, at) in bytes.iter().zip(0_u32..) {
        put(memory, u64::from(prod.wrapping_add(at) % 1024), &[byte]);
    }
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    put(memory, 2052, &prod.wrapping_add(len).to_le_bytes());
}

fn take(memory: &SparseMemory, got: &mut Vec<u8>) {
    let (cons, prod) = (word(memory, 2056), word(memory, 2060));
    let used = prod.wrapping_sub(cons).min(1024);
    for at in 0..used {
        let place = 1024 + u64::from(cons.wrapping_add(at) % 1024);
        got.extend(memory.peek(PAGE + place, 1));
    }
    put(memory, 2056, &cons.wrapping_add(used).to_le_bytes());
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
