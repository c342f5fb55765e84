//! Operations on lists of grants, for a domain that maps nothing; and what else has an answer by default.

use pvh_hypercall::{
    Width::{Compat, Native},
    group::Console,
};

use crate::domain::{Domain, FlatGuest, call};

const MEMORY_OP: u64 = 12;
const GRANT_TABLE_OP: u64 = 20;

/// Two elements, each `size` bytes, and where in them the status is.
fn statuses(op: u64, size: usize, status_at: usize) -> [i16; 3] {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    guest.put(0x100, &[0x55; 120]);
    let answers = [Native, Compat].map(|width| {
        guest.put(0x100, &[0x55; 120]);
        let answer = call(&mut domain, &guest, width, GRANT_TABLE_OP, &[op, 0x100, 2]);
        let at = [0, 1, 2].map(|index| 0x100 + index * size + status_at);
        assert_eq!(answer, 0, "a status is no error of the call");
        at.map(|at| i16::from_le_bytes(guest.bytes(at)))
    });
    assert_eq!(answers[0], answers[1], "one structure for both widths");
    answers[0]
}

#[test]
fn an_unmap_is_24_bytes_and_without_mappings_has_a_bad_handle() {
    assert_eq!(statuses(1, 24, 20), [-4, -4, 0x5555]);
}

#[test]
fn a_map_is_32_bytes_and_is_refused_with_a_general_error() {
    assert_eq!(statuses(0, 32, 18), [-1, -1, 0x5555]);
}

#[test]
fn a_swap_is_12_bytes_and_is_refused_with_a_general_error() {
    assert_eq!(statuses(11, 12, 8), [-1, -1, 0x5555]);
}

#[test]
fn a_memory_map_is_not_taken_up_again() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    guest.put_u32(0x100, &[0x7ff0, 1, 0x200]);
    for (op, width) in [(9, Native), (9, Compat), (13, Native), (13, Compat)] {
        let continued = op | 1 << 6;
        let answer = call(&mut domain, &guest, width, MEMORY_OP, &[continued, 0x100]);
        assert_eq!(answer, -38, "{op}");
    }
}

#[test]
fn a_console_that_only_writes_has_nothing_to_read() {
    struct Mute;
    impl Console for Mute {
        fn write(&mut self, _text: &[u8]) {}
    }
    assert_eq!(Mute.read(&mut [0; 8]), 0);
}
