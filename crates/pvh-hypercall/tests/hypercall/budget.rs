//! One budget for all levels of a guest's lists.

use pvh_hypercall::{
    Budget, Call, Outcome,
    Width::{self, Compat},
    dispatch, dispatch_within,
};

use crate::domain::{Domain, FlatGuest};

const MEMORY_OP: u64 = 12;
const MULTICALL: u64 = 13;
const GRANT_TABLE_OP: u64 = 20;

/// Puts a 32-bit multicall entry.
fn entry(guest: &FlatGuest, at: usize, op: u32, args: [u32; 3]) {
    guest.put_u32(at, &[op, 0, args[0], args[1], args[2], 0, 0, 0]);
}

/// A reservation of 256 frames at 0x2000, at address 0x100.
fn reservation(guest: &FlatGuest) {
    guest.put_u32(0x100, &[0x2000, 256, 0, 0, 0x7ff0]);
}

/// Makes a call to its end; returns its result and the number of goes.
fn goes(domain: &mut Domain, guest: &FlatGuest, width: Width, mut call: Call) -> (i64, u32) {
    for goes in 1..1000 {
        match dispatch(domain, guest, call) {
            Outcome::Return(result) => return (result, goes),
            Outcome::Again(rest) => call = rest,
        }
        assert_eq!(call.width, width);
    }
    panic!("{call:?} does not end");
}

#[test]
fn the_entries_of_a_multicall_share_one_budget() {
    let guest = FlatGuest::new();
    reservation(&guest);
    for index in 0..32 {
        entry(&guest, 0x400 + index * 32, 12, [6, 0x100, 0]);
    }
    let call = Call::new(Compat, MULTICALL, [0x400, 32, 0, 0, 0]);
    // Frames cost the handler 4 units each: 256 of them are a quarter of a go.
    let mut domain = Domain {
        extents_cost: 256 * 4,
        ..Domain::default()
    };
    let (result, goes) = goes(&mut domain, &guest, Compat, call);
    assert_eq!(result, 0);
    assert!((8..=11).contains(&goes), "{goes}");
    for index in 0..32 {
        assert_eq!(guest.u32(0x400 + index * 32 + 4), 256, "entry {index}");
    }
    assert_eq!(domain.asked.len(), 32, "nothing is done twice");
}

#[test]
fn a_change_of_a_memory_slot_ends_the_go() {
    let guest = FlatGuest::new();
    reservation(&guest);
    entry(&guest, 0x400, 12, [6, 0x100, 0]);
    entry(&guest, 0x420, 29, [0, 0, 0]);
    let call = Call::new(Compat, MULTICALL, [0x400, 2, 0, 0, 0]);
    let mut domain = Domain {
        extents_cost: Budget::SLOT,
        ..Domain::default()
    };
    let rest = Call::new(Compat, MULTICALL, [0x420, 1, 0, 0, 0]);
    assert_eq!(dispatch(&mut domain, &guest, call), Outcome::Again(rest));
    assert_eq!(dispatch(&mut domain, &guest, rest), Outcome::Return(0));
    assert_eq!(guest.u32(0x404), 256);
}

#[test]
fn extents_stop_without_an_error_where_the_budget_does() {
    let guest = FlatGuest::new();
    reservation(&guest);
    let mut domain = Domain {
        extents_left: Some(5),
        extents_cost: Budget::GO,
        ..Domain::default()
    };
    let call = Call::new(Compat, MEMORY_OP, [6, 0x100, 0, 0, 0]);
    let rest = Call::new(Compat, MEMORY_OP, [6 | 5 << 6, 0x100, 0, 0, 0]);
    assert_eq!(dispatch(&mut domain, &guest, call), Outcome::Again(rest));
    // A go that did a part of one extent comes back as it was.
    domain.extents_left = Some(0);
    assert_eq!(dispatch(&mut domain, &guest, rest), Outcome::Again(rest));
    // Refused, with the budget left: the call ends.
    domain.extents_cost = 0;
    assert_eq!(dispatch(&mut domain, &guest, rest), Outcome::Return(5));
}

#[test]
fn each_go_does_one_element_however_small_the_budget() {
    // Grants to copy, add_to_physmap of a range, and a batch.
    let guest = FlatGuest::new();
    guest.put_u32(0x100, &[3 << 16 | 0x7ff0, 3, 0x10, 0x20]);
    guest.put_u32(0x200, &[0x7ff0, 3, 0x1000, 0x1100, 0x1200]);
    let copy = Call::new(Compat, GRANT_TABLE_OP, [5, 0x400, 3, 0, 0]);
    let range = Call::new(Compat, MEMORY_OP, [7, 0x100, 0, 0, 0]);
    let batch = Call::new(Compat, MEMORY_OP, [23, 0x200, 0, 0, 0]);
    for (name, mut call) in [("copy", copy), ("range", range), ("batch", batch)] {
        let mut domain = Domain::default();
        let mut goes = 0;
        let result = loop {
            goes += 1;
            let budget = Budget::new(1);
            match dispatch_within(&mut domain, &guest, call, &budget) {
                Outcome::Return(result) => break result,
                Outcome::Again(rest) => call = rest,
            }
        };
        assert_eq!((result, goes), (0, 3), "{name}");
    }
}

#[test]
fn calls_that_may_look_at_every_port_end_the_go() {
    // bind_virq, reset, a soft reset and a TLB flush, each before a yield.
    for (number, op) in [(32, 1), (32, 10), (29, 2), (34, 5)] {
        let guest = FlatGuest::new();
        let arg = if number == 34 { 0 } else { 0x100 };
        guest.put_u32(0x100, &[0x7ff0, 0, 0]);
        entry(&guest, 0x400, number, [op, arg, 0]);
        entry(&guest, 0x420, 29, [0, 0, 0]);
        let call = Call::new(Compat, MULTICALL, [0x400, 2, 0, 0, 0]);
        let rest = Call::new(Compat, MULTICALL, [0x420, 1, 0, 0, 0]);
        let outcome = dispatch(&mut Domain::default(), &guest, call);
        assert_eq!(outcome, Outcome::Again(rest), "{number} {op}");
    }
}
