//! The console ring, with guests that behave and guests that do not.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_domain::{RingError, parts::console::ConsoleRing};
use pvh_memory::{GuestMemory, VecMemory};

const PAGE: Gpa = Gpa(0x5000);
const RING: ConsoleRing = ConsoleRing::new(PAGE);

fn memory() -> VecMemory {
    VecMemory::zeroed(&[(PAGE, 4096)]).unwrap()
}

fn set(memory: &VecMemory, offset: u64, value: u32) {
    memory
        .write(Gpa(PAGE.0 + offset), &value.to_le_bytes())
        .unwrap();
}

fn word(memory: &VecMemory, offset: u64) -> u32 {
    let mut word = [0; 4];
    memory.read(Gpa(PAGE.0 + offset), &mut word).unwrap();
    u32::from_le_bytes(word)
}

#[test]
fn output_lies_at_1024_and_its_indices_at_3080_and_3084() {
    let memory = memory();
    memory.write(Gpa(PAGE.0 + 1024), b"hello").unwrap();
    set(&memory, 3084, 5);
    let mut buf = [0; 100];
    let moved = RING.take_output(&memory, &mut buf).unwrap();
    assert_eq!(
        (moved.len_bytes, moved.notify, &buf[..5]),
        (5, true, &b"hello"[..])
    );
    assert_eq!(word(&memory, 3080), 5);
    let moved = RING.take_output(&memory, &mut buf).unwrap();
    assert_eq!((moved.len_bytes, moved.notify), (0, false));
}

#[test]
fn input_lies_at_0_and_its_indices_at_3072_and_3076() {
    let memory = memory();
    let moved = RING.push_input(&memory, b"typed").unwrap();
    assert_eq!((moved.len_bytes, moved.notify), (5, true));
    let mut found = [0; 5];
    memory.read(PAGE, &mut found).unwrap();
    assert_eq!(
        (&found, word(&memory, 3076), word(&memory, 3072)),
        (b"typed", 5, 0)
    );
}

#[test]
fn input_is_taken_as_far_as_1024_bytes_of_room_go() {
    let memory = memory();
    assert_eq!(
        RING.push_input(&memory, &[1; 1000]).unwrap().len_bytes,
        1000
    );
    assert_eq!(RING.push_input(&memory, &[2; 1000]).unwrap().len_bytes, 24);
    let moved = RING.push_input(&memory, &[3]).unwrap();
    assert_eq!((moved.len_bytes, moved.notify), (0, false));
    set(&memory, 3072, 1000);
    assert_eq!(
        RING.push_input(&memory, &[4; 2000]).unwrap().len_bytes,
        1000
    );
}

#[test]
fn indices_wrap_at_the_end_of_the_ring_and_of_32_bits() {
    for start in [2040_u32, u32::MAX - 7, u32::MAX] {
        let memory = memory();
        let text: Vec<u8> = (0..100).collect();
        for (index, byte) in text.iter().enumerate() {
            let at = 1024 + u64::from(start.wrapping_add(index as u32) % 2048);
            memory.write(Gpa(PAGE.0 + at), &[*byte]).unwrap();
        }
        set(&memory, 3080, start);
        set(&memory, 3084, start.wrapping_add(100));
        let mut found = [0; 200];
        assert_eq!(
            RING.take_output(&memory, &mut found).unwrap().len_bytes,
            100
        );
        assert_eq!(found[..100], text);
        assert_eq!(word(&memory, 3080), start.wrapping_add(100));
        set(&memory, 3072, start);
        set(&memory, 3076, start);
        assert_eq!(RING.push_input(&memory, &text).unwrap().len_bytes, 100);
        assert_eq!(word(&memory, 3076), start.wrapping_add(100));
    }
}

#[test]
fn indices_too_far_apart_move_nothing_until_they_are_put_right() {
    let memory = memory();
    set(&memory, 3084, 2049);
    set(&memory, 3072, 1);
    let mut buf = [0; 4096];
    for _ in 0..2 {
        let want = RingError::Inconsistent {
            cons: 0,
            prod: 2049,
            size_bytes: 2048,
        };
        assert_eq!(RING.take_output(&memory, &mut buf), Err(want));
        let want = RingError::Inconsistent {
            cons: 1,
            prod: 0,
            size_bytes: 1024,
        };
        assert_eq!(RING.push_input(&memory, b"x"), Err(want));
    }
    assert_eq!((word(&memory, 3080), word(&memory, 3076)), (0, 0));
    set(&memory, 3084, 2048);
    assert_eq!(RING.take_output(&memory, &mut buf).unwrap().len_bytes, 2048);
}

#[test]
fn a_page_that_is_no_ram_is_an_error() {
    let memory = VecMemory::zeroed(&[(PAGE, 2048)]).unwrap();
    let mut buf = [0; 10];
    assert!(matches!(
        RING.take_output(&memory, &mut buf),
        Err(RingError::Memory(_))
    ));
    let past = ConsoleRing::new(Gpa(u64::MAX - 10));
    assert!(matches!(
        past.push_input(&memory, b"x"),
        Err(RingError::Memory(_))
    ));
}

proptest! {
    /// Whatever the indices are, a call ends, moves what the indices say, and touches nothing
    /// beside.
    #[test]
    fn hostile_indices_move_a_ring_full_at_most(words in any::<[u32; 4]>(), near in any::<bool>()) {
        let memory = memory();
        memory.write(Gpa(PAGE.0 + 3088), &[0xaa; 1008]).unwrap();
        let words = words.map(|word| if near { word % 3000 } else { word });
        for (index, word) in words.into_iter().enumerate() {
            set(&memory, 3072 + 4 * index as u64, word);
        }
        let [in_cons, in_prod, out_cons, out_prod] = words;
        let mut buf = [0; 4096];
        let used = out_prod.wrapping_sub(out_cons);
        match RING.take_output(&memory, &mut buf) {
            Ok(moved) => prop_assert_eq!(moved.len_bytes, used as usize),
            Err(_) => prop_assert!(used > 2048),
        }
        let used = in_prod.wrapping_sub(in_cons);
        match RING.push_input(&memory, &buf) {
            Ok(moved) => prop_assert_eq!(moved.len_bytes, 1024 - used as usize),
            Err(_) => prop_assert!(used > 1024),
        }
        let mut rest = [0; 1008];
        memory.read(Gpa(PAGE.0 + 3088), &mut rest).unwrap();
        prop_assert_eq!(rest, [0xaa; 1008]);
    }
}
