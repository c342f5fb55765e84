//! Lists of a guest's: bounded work in one go, and nothing lost between them.

use pvh_hypercall::{
    Call, Outcome,
    Width::{Compat, Native},
    dispatch,
};

use crate::domain::{Domain, FlatGuest, call};

const MULTICALL: u64 = 13;

fn new() -> (Domain, FlatGuest) {
    (Domain::default(), FlatGuest::new())
}

/// Puts a 32-bit entry: 32 bytes.
fn entry(guest: &FlatGuest, at: usize, op: u32, args: [u32; 3]) {
    guest.put_u32(at, &[op, 0xffff_ffff, args[0], args[1], args[2], 0, 0, 0]);
}

#[test]
fn a_multicall_writes_each_result_and_goes_on_after_an_error() {
    let (mut domain, guest) = new();
    entry(&guest, 0x100, 29, [0, 0, 0]);
    entry(&guest, 0x120, 99, [0, 0, 0]);
    entry(&guest, 0x140, 24, [3, 0, 0]);
    assert_eq!(call(&mut domain, &guest, Compat, MULTICALL, &[0x100, 3]), 0);
    let results = [0x104, 0x124, 0x144].map(|at| guest.u32(at).cast_signed());
    assert_eq!(results, [0, -38, 1]);
}

#[test]
fn a_64_bit_entry_is_64_bytes_with_a_64_bit_result() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[99, 0, 0, 0]);
    guest.put_u32(0x140, &[17, 0, 0xffff_ffff, 0xffff_ffff]);
    assert_eq!(call(&mut domain, &guest, Native, MULTICALL, &[0x100, 2]), 0);
    assert_eq!(guest.u64(0x108).cast_signed(), -38);
    assert_eq!(guest.u64(0x148), 0x4_0011);
}

#[test]
fn a_multicall_inside_is_einval_and_privileged_calls_are_filtered() {
    let (mut domain, guest) = new();
    entry(&guest, 0x100, 13, [0x100, 1, 0]);
    entry(&guest, 0x120, 36, [0, 0, 0]);
    assert_eq!(call(&mut domain, &guest, Compat, MULTICALL, &[0x100, 2]), 0);
    assert_eq!(guest.u32(0x104).cast_signed(), -22);
    assert_eq!(guest.u32(0x124).cast_signed(), -13, "its version is wrong");
}

#[test]
fn a_list_that_leaves_memory_is_efault_with_the_first_calls_done() {
    let (mut domain, guest) = new();
    entry(&guest, 0xffe0, 29, [0, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MULTICALL, &[0xffe0, 2]),
        -14
    );
    assert_eq!(domain.asked, ["yield"]);
    assert_eq!(
        call(&mut domain, &guest, Native, MULTICALL, &[u64::MAX - 63, 2]),
        -14
    );
    assert_eq!(
        call(&mut domain, &guest, Native, MULTICALL, &[u64::MAX, 0]),
        0,
        "nothing to do"
    );
}

#[test]
fn one_go_of_a_multicall_has_32_entries() {
    let (mut domain, guest) = new();
    for index in 0..33 {
        entry(&guest, index * 32, 29, [0, 0, 0]);
    }
    let all = Call::new(Compat, MULTICALL, [0, 33, 0, 0, 0]);
    let rest = Call::new(Compat, MULTICALL, [32 * 32, 1, 0, 0, 0]);
    assert_eq!(dispatch(&mut domain, &guest, all), Outcome::Again(rest));
    assert_eq!(domain.asked.len(), 32);
    assert_eq!(dispatch(&mut domain, &guest, rest), Outcome::Return(0));
    assert_eq!(domain.asked.len(), 33);
}

/// Puts a 32-bit reservation of `count` frames at 0x2000 and up, and returns its address.
fn reservation(guest: &FlatGuest, count: u32) -> u64 {
    for index in 0..count.min(1000) {
        let at = usize::try_from(0x2000 + index * 4).unwrap();
        guest.put_u32(at, &[0x1000 + index]);
    }
    guest.put_u32(0x100, &[0x2000, count, 0, 0, 0x7ff0]);
    0x100
}

#[test]
fn populate_answers_how_many_extents_are_done() {
    let (mut domain, guest) = new();
    let at = reservation(&guest, 600);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), 600);
    let goes = [
        "extents 0x1000 to 0x10ff",
        "extents 0x1100 to 0x11ff",
        "extents 0x1200 to 0x1257",
    ];
    assert_eq!(domain.asked, goes);
}

#[test]
fn an_extent_that_fails_ends_the_call_with_those_before_it() {
    let (mut domain, guest) = new();
    let at = reservation(&guest, 600);
    domain.extents_left = Some(5);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), 5);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[1, at]), 5);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[0, at]), 0, "PV's");
    let goes = [
        "extents 0x1000 to 0x10ff",
        "decrease",
        "extents 0x1000 to 0x10ff",
    ];
    assert_eq!(domain.asked, goes);
}

#[test]
fn a_go_that_says_it_did_more_than_it_had_is_not_believed() {
    let (mut domain, guest) = new();
    let at = reservation(&guest, 600);
    domain.extents_left = Some(u64::MAX);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), 600);
    assert_eq!(domain.asked.len(), 3);
}

#[test]
fn a_reservation_has_0x3ffffff_extents_at_most() {
    for (count, done) in [(0x3ff_ffff, 5), (0x400_0000, 0)] {
        let (mut domain, guest) = new();
        let at = reservation(&guest, count);
        domain.extents_left = Some(5);
        assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), done);
    }
}

#[test]
fn a_chosen_frame_is_written_into_the_list() {
    let (mut domain, guest) = new();
    let at = reservation(&guest, 3);
    domain.chosen = Some(0x77);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), 3);
    let frames = [0x2000, 0x2004, 0x2008, 0x200c].map(|at| guest.u32(at));
    assert_eq!(frames, [0x1000, 0x1001, 0x77, 0]);
    let asked = ["extents 0x1000 to 0x1002", "Ok(()) Err(Errno(22))"];
    assert_eq!(domain.asked, asked);
}

#[test]
fn a_reservation_that_cannot_be_read_or_is_too_long_is_0_extents_and_no_error() {
    let (mut domain, guest) = new();
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, 0xfff0]), 0);
    let at = reservation(&guest, 0x400_0000);
    assert_eq!(call(&mut domain, &guest, Compat, 12, &[6, at]), 0);
    let at = reservation(&guest, 3);
    let started_at_3 = 6 | 3 << 6;
    assert_eq!(
        call(&mut domain, &guest, Compat, 12, &[started_at_3, at]),
        3
    );
    assert!(domain.asked.is_empty());
}

#[test]
fn a_long_call_inside_a_multicall_goes_on_from_where_it_was() {
    let (mut domain, guest) = new();
    let at = reservation(&guest, 600);
    entry(&guest, 0x400, 12, [6, u32::try_from(at).unwrap(), 0]);
    entry(&guest, 0x420, 29, [0, 0, 0]);
    assert_eq!(call(&mut domain, &guest, Compat, MULTICALL, &[0x400, 2]), 0);
    assert_eq!((guest.u32(0x404), guest.u32(0x424)), (600, 0));
    assert_eq!(domain.asked.len(), 4, "three goes and the yield");
}

#[test]
fn a_list_of_grants_goes_on_element_by_element() {
    let (mut domain, guest) = new();
    assert_eq!(call(&mut domain, &guest, Compat, 20, &[5, 0, 600]), 0);
    assert_eq!(domain.asked.len(), 600);
    let first = Call::new(Compat, 20, [5, 0, 600, 0, 0]);
    let rest = Call::new(Compat, 20, [5, 256 * 24, 344, 0, 0]);
    assert_eq!(dispatch(&mut domain, &guest, first), Outcome::Again(rest));
    assert_eq!(call(&mut domain, &guest, Compat, 20, &[5, 0xffe8, 2]), -14);
}
