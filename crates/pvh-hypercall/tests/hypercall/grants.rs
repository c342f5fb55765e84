//! Operations on lists of grants, for a domain that maps nothing; and what else has an answer by
//! default.

use pvh_hypercall::{
    GuestIo as _,
    Width::{Compat, Native},
    group::Console,
};

use crate::domain::{Domain, FlatGuest, call, e820};

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
fn a_copy_is_40_bytes_of_a_64_bit_caller_and_24_of_a_32_bit_one() {
    for (width, size, status_at) in [(Native, 40, 36), (Compat, 24, 20)] {
        let (mut domain, guest) = (Domain::default(), FlatGuest::new());
        let answer = call(&mut domain, &guest, width, GRANT_TABLE_OP, &[5, 0x100, 2]);
        let at = [0, 1, 2].map(|index| 0x100 + index * size + status_at);
        let statuses = at.map(|at| i16::from_le_bytes(guest.bytes(at)));
        assert_eq!((answer, statuses), (0, [-3, -3, 0]), "{width:?}");
    }
}

#[test]
fn a_page_of_a_batch_is_anothers_where_the_space_says_so() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    guest.put_u32(0x200, &[0x10]);
    guest.put_u32(0x300, &[0x20]);
    for space in [4, 2] {
        guest.put_u32(
            0x100,
            &[space << 16 | 0x7ff0, 5 << 16 | 1, 0x200, 0x300, 0x400],
        );
        let answer = call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]);
        assert_eq!(answer, 0);
    }
    assert_eq!(domain.asked, ["add 4 0x10 0x20 of 5", "add 2 0x10 0x20"]);
}

#[test]
fn an_address_leads_nowhere_unless_memory_says_so() {
    assert_eq!(FlatGuest::new().translate(0x1000), None);
}

#[test]
fn a_memory_map_is_not_taken_up_again() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    domain.map = vec![e820(0, 0xa_0000)];
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
