//! Linking behind a tail that the guest changes at the same moment.

use core::cell::Cell;
use std::rc::Rc;

use pvh_abi::{Gpa, event_channel::Port};
use pvh_domain::parts::event::Signal;
use pvh_memory::{GuestMemory, VecMemory, WordOp};

use crate::{
    machine::{BUSY, LINKED, MASKED, Machine, PENDING, event_at, ram},
    scripted::Scripted,
};

const FIRST: Port = Port(1);
const SECOND: Port = Port(2);

/// Port 1 is linked and the tail of vCPU 0's queue; port 2 is about to be.
fn machine() -> Machine<Scripted> {
    let mut machine = Machine::new(Scripted::new(ram()), 1, 1023);
    machine.turn_fifo_on(1);
    assert_eq!([machine.ipi(0), machine.ipi(0)], [FIRST, SECOND]);
    machine.send(FIRST).0.unwrap();
    machine.take_ready(0);
    machine
}

fn change(ram: &VecMemory, change: impl Fn(u32) -> u32) {
    let at = Gpa(event_at(FIRST));
    let now = ram.atomic_u32(at, WordOp::Load).unwrap();
    ram.atomic_u32(at, WordOp::Swap(change(now))).unwrap();
}

/// Lets the guest make `changes` in turn to the tail, each just before one attempt to write its
/// link. Answers the signals and the number of attempts.
fn append_against(
    machine: &mut Machine<Scripted>,
    mut changes: impl Iterator<Item = fn(u32) -> u32> + 'static,
) -> (Vec<Signal>, u32) {
    let attempts = Rc::new(Cell::new(0));
    let count = attempts.clone();
    machine.memory.on_access(move |ram, at, op| {
        if at == Gpa(event_at(FIRST)) && matches!(op, WordOp::CompareExchange { .. }) {
            count.set(count.get() + 1);
            if let Some(next) = changes.next() {
                change(ram, next);
            }
        }
    });
    let signals = machine.send(SECOND).1;
    machine.memory.quiet();
    (signals, attempts.get())
}

#[test]
fn a_quiet_tail_takes_one_attempt_and_never_shows_busy() {
    let mut machine = machine();
    machine.memory.on_access(|_, at, op| {
        let sets_busy = matches!(op, WordOp::Or(bits) if bits & BUSY != 0);
        assert!(!(at == Gpa(event_at(FIRST)) && sets_busy));
    });
    assert_eq!(machine.send(SECOND).1, []);
    assert_eq!(machine.event(FIRST), PENDING | LINKED | 2);
}

#[test]
fn a_guest_that_masks_the_tail_meanwhile_keeps_its_mask() {
    let mut machine = machine();
    let changes: [fn(u32) -> u32; 1] = [|word| word | MASKED];
    let (signals, attempts) = append_against(&mut machine, changes.into_iter());
    assert_eq!((signals, attempts), (vec![], 2));
    assert_eq!(
        machine.event(FIRST),
        PENDING | MASKED | LINKED | 2,
        "BUSY is clear"
    );
}

#[test]
fn a_guest_that_pops_the_tail_meanwhile_finds_the_event_as_head() {
    let mut machine = machine();
    let changes: [fn(u32) -> u32; 1] = [|word| word & !(LINKED | 0x1_ffff)];
    let (signals, attempts) = append_against(&mut machine, changes.into_iter());
    assert_eq!((signals, attempts), (vec![Signal::Upcall(0)], 1));
    assert_eq!(
        machine.event(FIRST),
        PENDING,
        "BUSY is clear, nothing is linked to it"
    );
    assert_eq!(machine.head(0, 7), 2);
}

#[test]
fn four_changes_that_the_rules_allow_are_not_too_many() {
    let mut machine = machine();
    let changes: [fn(u32) -> u32; 4] = [
        |word| word | MASKED,
        |word| word & !MASKED,
        |word| word & !PENDING,
        |word| word | MASKED,
    ];
    let (signals, attempts) = append_against(&mut machine, changes.into_iter());
    assert_eq!((signals, attempts), (vec![], 5));
    assert_eq!(machine.event(FIRST), MASKED | LINKED | 2);
}

#[test]
fn a_guest_that_pops_the_tail_at_the_last_attempt_but_one_is_notified() {
    let mut machine = machine();
    let changes: [fn(u32) -> u32; 4] = [
        |word| word | MASKED,
        |word| word & !MASKED,
        |word| word & !PENDING,
        |word| word & !(LINKED | 0x1_ffff),
    ];
    let (signals, attempts) = append_against(&mut machine, changes.into_iter());
    assert_eq!((signals, attempts), (vec![Signal::Upcall(0)], 4));
    assert_eq!(machine.event(FIRST) & BUSY, 0);
}

#[test]
fn a_guest_that_breaks_the_rules_gets_five_attempts_and_loses_the_event() {
    let mut machine = machine();
    let endless = core::iter::repeat((|word| word ^ (1 << 20)) as fn(u32) -> u32);
    let (signals, attempts) = append_against(&mut machine, endless);
    assert_eq!((signals, attempts), (vec![], 5));
    assert_eq!(
        machine.event(FIRST) & (BUSY | 0x1_ffff),
        0,
        "not linked, and not busy"
    );
    assert_eq!(machine.event(SECOND), PENDING | LINKED);
    assert_eq!((machine.head(0, 7), machine.ready(0)), (1, 0));
}

#[test]
fn busy_is_set_while_the_tail_is_tried_again() {
    let mut machine = machine();
    let seen = Rc::new(Cell::new(0));
    let words = seen.clone();
    machine.memory.on_access(move |ram, at, op| {
        if at == Gpa(event_at(FIRST)) && matches!(op, WordOp::CompareExchange { .. }) {
            let now = ram.atomic_u32(at, WordOp::Load).unwrap();
            words.set(words.get() * 2 + u32::from(now & BUSY != 0));
            change(ram, |word| word ^ MASKED);
        }
    });
    machine.send(SECOND).0.unwrap();
    assert_eq!(seen.get(), 0b01111, "so that the guest clears no mask");
}

#[test]
fn pending_comes_before_masked_is_tested_and_the_head_before_ready_and_upcall() {
    let mut machine = Machine::new(Scripted::new(ram()), 1, 1023);
    machine.turn_fifo_on(1);
    machine.ipi(0);
    let order = Rc::new(core::cell::RefCell::new(Vec::new()));
    let log = order.clone();
    machine
        .memory
        .on_access(move |_, at, op| log.borrow_mut().push((at.0, op)));
    machine.send(FIRST).0.unwrap();
    let (word, control) = (event_at(FIRST), crate::machine::control_at(0));
    assert_eq!(
        *order.borrow(),
        [
            (word, WordOp::Or(PENDING)),
            (word, WordOp::Load),
            (word, WordOp::Or(LINKED)),
            (control + 8 + 28, WordOp::Swap(1)),
            (control, WordOp::Or(1 << 7)),
            (crate::machine::SHARED_INFO, WordOp::Or(1)),
        ]
    );
}

#[test]
fn the_pending_bit_comes_before_the_mask_is_tested_and_the_selector_before_the_upcall() {
    let mut machine = Machine::new(Scripted::new(ram()), 1, 1023);
    machine.ipi(0);
    let order = Rc::new(core::cell::RefCell::new(Vec::new()));
    let log = order.clone();
    let base = crate::machine::SHARED_INFO;
    machine
        .memory
        .on_access(move |_, at, op| log.borrow_mut().push((at.0 - base, op)));
    machine.send(FIRST).0.unwrap();
    assert_eq!(
        *order.borrow(),
        [
            (2048, WordOp::Or(1 << 1)),
            (2560, WordOp::Load),
            (8, WordOp::Or(1)),
            (0, WordOp::Or(1)),
        ]
    );
}
