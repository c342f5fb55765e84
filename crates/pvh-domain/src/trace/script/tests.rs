//! Tests of memory that answers from a record.

use pvh_memory::{LinearMemory, PagingPolicy, PagingState, VecMemory};

use super::{
    super::tap::{Accesses, IoTap, MemoryTap},
    *,
};

const RAM_BYTES: u64 = 0x4000;
/// No RAM, and far from any.
const NOWHERE: u64 = 0x100_0000;

const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

fn ram() -> VecMemory {
    let memory = VecMemory::zeroed(&[(Gpa(0), RAM_BYTES)]).unwrap();
    memory.with_spare_frames(2)
}

/// Makes every access there is, well and badly, and tells what each came to.
fn access(memory: &impl Frames, io: &dyn GuestIo) -> Vec<String> {
    let mut answers = Vec::new();
    let mut tell = |answer: &dyn core::fmt::Debug| answers.push(format!("{answer:?}"));
    for at in [0x1000, 0x1004, 0x1001, NOWHERE] {
        let mut buf = [0; 12];
        let at = Gpa(at);
        tell(&memory.is_ram(at, 12));
        tell(&memory.write(at, b"twelve bytes"));
        tell(&memory.read(at, &mut buf));
        tell(&buf);
        tell(&memory.atomic_u32(at, WordOp::Or(0x80)));
        tell(&memory.atomic_u64(at, WordOp::Swap(0x1_0000_0007)));
        tell(&memory.atomic_u64(at, WordOp::Load));
        tell(&memory.zero(at, 4));
        tell(&memory.atomic_u32(at, WordOp::Load));
    }
    for gfns in [4..6, 4..5, 6..9, 0..1] {
        tell(&memory.add_frames(gfns.clone()));
        tell(&memory.remove_frames(gfns.clone()));
        tell(&memory.remove_frames(gfns));
    }
    for linear in [0x2000, NOWHERE] {
        let mut buf = [0; 4];
        tell(&io.copy_to_guest(linear, b"four"));
        tell(&io.copy_from_guest(linear, &mut buf));
        tell(&buf);
        tell(&io.translate(linear));
    }
    answers
}

#[test]
fn a_script_answers_every_access_as_memory_did() {
    let memory = ram();
    let direct = access(
        &memory,
        &LinearMemory::new(&memory, &PagingState::UNPAGED, &POLICY),
    );
    assert!(direct.iter().any(|answer| answer.contains("Misaligned")));
    assert!(direct.iter().any(|answer| answer.contains("Exhausted")));
    let memory = ram();
    let accesses = Accesses::default();
    let tap = MemoryTap {
        memory: &memory,
        accesses: &accesses,
    };
    let io = IoTap {
        io: &LinearMemory::new(&memory, &PagingState::UNPAGED, &POLICY),
        accesses: &accesses,
    };
    assert_eq!(access(&tap, &io), direct);
    let script = Script::new(accesses.into_inner());
    assert_eq!(access(&script, &script), direct);
    assert!(!script.is_lost() && script.end().is_none());
}

#[test]
fn a_script_is_lost_from_the_first_request_that_it_does_not_hold() {
    let request = Request::IsRam {
        at: 0x1000,
        len_bytes: 8,
    };
    let script = Script::new(vec![Access {
        request,
        found: Found::Is(true),
    }]);
    assert!(script.is_ram(Gpa(0x1000), 8) && !script.is_lost());
    assert!(!script.is_ram(Gpa(0x1000), 8) && script.is_lost());
}
