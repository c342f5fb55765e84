//! The FIFO ABI: how it begins and ends, and the unmask call.

use pvh_abi::{DomId, Errno, event_channel::Port};
use pvh_domain::parts::event::Signal;
use pvh_hypercall::group::ControlBlock;

use crate::machine::{
    ARRAY_GFN, CONTROL_GFN, LINKED, MASKED, ME, Machine, PENDING, SHARED_INFO, block, control_at,
    event_at, fifo, ram, two_level,
};

fn init(machine: &mut Machine, vcpu: u32) -> Result<u8, Errno> {
    machine.run(|events, d| events.init_control(d, &block(vcpu)))
}

fn expand(machine: &mut Machine, gfn: u64) -> (Result<(), Errno>, Vec<Signal>) {
    machine.call(|events, d| events.expand_array(d, gfn))
}

#[test]
fn what_was_pending_is_raised_when_the_page_comes() {
    let mut machine = two_level(1);
    let (before, masked) = (machine.ipi(0), machine.ipi(0));
    machine.send(before).0.unwrap();
    machine.send(masked).0.unwrap();
    machine.set_word(SHARED_INFO, 0);
    init(&mut machine, 0).unwrap();
    let without_page = machine.ipi(0);
    assert_eq!(machine.send(without_page), (Ok(()), vec![]), "kept");
    machine.set_event(masked, MASKED);
    assert_eq!(
        expand(&mut machine, ARRAY_GFN),
        (Ok(()), vec![Signal::Upcall(0)])
    );
    assert_eq!(machine.event(before), PENDING | LINKED | without_page.0);
    assert_eq!(machine.event(masked), PENDING | MASKED, "and no more");
    assert_eq!(machine.event(without_page), PENDING | LINKED);
    let word = machine.word(SHARED_INFO + 2048);
    assert_eq!(word, 1 << before.0 | 1 << masked.0, "two-level bits stay");
}

#[test]
fn a_pending_bit_of_a_port_not_in_use_is_taken_over_too() {
    let mut machine = two_level(1);
    machine.set_word(SHARED_INFO + 2048, 1);
    machine.set_word(SHARED_INFO + 2048 + 4, 1 << 8);
    machine.set_word(SHARED_INFO + 2048 + 8, 1 << 6);
    machine.turn_fifo_on(1);
    assert_eq!(machine.event(Port(40)), PENDING | LINKED);
    assert_eq!(machine.event(Port(0)), 0, "port 0 is not looked at");
    assert_eq!(machine.event(Port(70)), 0, "not valid");
}

#[test]
fn a_poll_does_not_see_events_without_a_word() {
    let mut machine = two_level(1);
    init(&mut machine, 0).unwrap();
    let port = machine.ipi(0);
    machine.send(port).0.unwrap();
    assert!(!machine.run(|events, d| events.is_port_pending(d, port)));
    expand(&mut machine, ARRAY_GFN).0.unwrap();
    assert!(machine.run(|events, d| events.is_port_pending(d, port)));
}

#[test]
fn an_event_for_a_vcpu_without_a_control_block_is_dropped() {
    let mut machine = two_level(2);
    init(&mut machine, 1).unwrap();
    expand(&mut machine, ARRAY_GFN).0.unwrap();
    let port = machine.ipi(0);
    assert_eq!(machine.send(port), (Ok(()), vec![]));
    assert_eq!(machine.event(port), 0, "not even pending");
    init(&mut machine, 0).unwrap();
    assert_eq!(machine.send(port).1, [Signal::Upcall(0)]);
}

#[test]
fn contents_of_pages_are_taken_as_found() {
    let mut machine = two_level(1);
    machine.set_word(control_at(0) + 8, 77);
    machine.set_event(Port(9), 0xffff_ffff);
    machine.turn_fifo_on(1);
    assert_eq!(machine.head(0, 0), 77);
    assert_eq!(machine.event(Port(9)), 0xffff_ffff);
}

#[test]
fn a_control_block_may_end_where_its_page_ends() {
    let mut machine = two_level(1);
    let block = ControlBlock {
        vcpu: 0,
        gfn: CONTROL_GFN,
        offset: 4024,
    };
    machine
        .run(|events, d| events.init_control(d, &block))
        .unwrap();
    expand(&mut machine, ARRAY_GFN).0.unwrap();
    let port = machine.ipi(0);
    machine.events.set_priority(port, 15).unwrap();
    machine.send(port).0.unwrap();
    assert_eq!(machine.word(control_at(0) + 4092), port.0);
    assert_eq!(machine.word(control_at(0) + 4024), 1 << 15);
    // The last of the queues has a tail, too.
    let next = machine.ipi(0);
    machine.events.set_priority(next, 15).unwrap();
    machine.send(next).0.unwrap();
    assert_eq!(machine.word(control_at(0) + 4092), port.0);
    assert_eq!(machine.event(port), PENDING | LINKED | next.0);
}

#[test]
fn ports_of_the_second_page_have_their_words_there() {
    let mut machine = Machine::new(ram(), 1, 5000);
    machine.turn_fifo_on(1);
    while machine.ipi(0) != Port(1024) {}
    assert_eq!(machine.send(Port(1024)).1, [], "no word yet");
    assert_eq!(expand(&mut machine, ARRAY_GFN + 5).1, [Signal::Upcall(0)]);
    assert_eq!(machine.word((ARRAY_GFN + 5) * 0x1000), PENDING | LINKED);
    while machine.ipi(0) != Port(4999) {}
    machine.ipi(0);
    let full = machine.run(|events, d| events.bind_ipi(d, 0));
    assert_eq!(
        full,
        Err(Errno(28)),
        "the toolstack's maximum, not the two-level one"
    );
}

#[test]
fn unmask_clears_masked_and_raises_a_pending_event() {
    let mut machine = fifo(1);
    let port = machine.ipi(0);
    machine.set_event(port, MASKED | PENDING);
    assert_eq!(machine.unmask(port), (Ok(()), vec![Signal::Upcall(0)]));
    assert_eq!(machine.event(port), PENDING | LINKED);
}

#[test]
fn unmask_raises_even_if_the_port_was_not_masked() {
    let mut machine = fifo(1);
    let port = machine.ipi(0);
    machine.set_event(port, PENDING);
    assert_eq!(machine.unmask(port), (Ok(()), vec![Signal::Upcall(0)]));
}

#[test]
fn unmask_of_a_port_without_an_event_only_clears_masked() {
    let mut machine = fifo(1);
    let port = machine.ipi(0);
    machine.set_event(port, MASKED);
    assert_eq!(machine.unmask(port), (Ok(()), vec![]));
    assert_eq!(machine.event(port), 0);
}

#[test]
fn unmask_leaves_the_word_of_a_free_port_alone() {
    let mut machine = fifo(1);
    machine.set_event(Port(40), MASKED | PENDING);
    assert_eq!(machine.unmask(Port(40)), (Ok(()), vec![]));
    assert_eq!(machine.event(Port(40)), MASKED | PENDING);
}

#[test]
fn unmask_without_an_array_page_does_nothing() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    init(&mut machine, 0).unwrap();
    machine.set_word(event_at(port), MASKED);
    assert_eq!(machine.unmask(port), (Ok(()), vec![]));
    assert_eq!(machine.event(port), MASKED);
}

#[test]
fn reset_goes_back_to_the_two_level_abi_and_keeps_its_bits() {
    let mut machine = fifo(1);
    let port = machine.ipi(0);
    machine.send(port).0.unwrap();
    machine.run(|events, d| events.reset(d, ME)).unwrap();
    assert!(!machine.events.is_fifo());
    assert_eq!(machine.event(port), LINKED, "PENDING was cleared");
    machine.set_word(SHARED_INFO + 2560, u32::MAX);
    let again = machine.ipi(0);
    assert_eq!(again, port, "LINKED means nothing now");
    assert_eq!(machine.send(again).1, [], "masked in the two-level words");
    assert_eq!(machine.word(SHARED_INFO + 2048), 1 << port.0);
    machine.set_word(SHARED_INFO + 2048, 0);
    assert_eq!(init(&mut machine, 0), Ok(17), "its block is forgotten");
}

#[test]
fn a_kept_event_is_raised_again_after_a_reset() {
    let mut machine = two_level(1);
    init(&mut machine, 0).unwrap();
    let port = machine.ipi(0);
    machine.send(port).0.unwrap();
    machine.run(|events, d| events.reset(d, ME)).unwrap();
    machine.turn_fifo_on(1);
    assert_eq!(
        machine.event(port),
        PENDING | LINKED,
        "spurious, and harmless"
    );
}

#[test]
fn a_new_bind_has_the_default_priority_again() {
    let mut machine = fifo(1);
    let port = machine.ipi(0);
    machine.events.set_priority(port, 3).unwrap();
    machine.close(port).unwrap();
    assert_eq!(machine.unbound(DomId::SELF), Ok(port));
    machine.close(port).unwrap();
    machine.ipi(0);
    machine.send(port).0.unwrap();
    assert_eq!(machine.ready(0), 1 << 7);
}

#[test]
fn a_peer_that_falls_back_to_unbound_keeps_its_priority() {
    let mut machine = fifo(1);
    let first = machine.unbound(ME).unwrap();
    machine.events.set_priority(first, 3).unwrap();
    let join = |machine: &mut Machine| {
        let bind = machine.run(|events, d| events.bind_interdomain(d, ME, first));
        bind.unwrap()
    };
    let second = join(&mut machine);
    machine.close(second).unwrap();
    machine.pop(second);
    let second = join(&mut machine);
    machine.take_ready(0);
    machine.send(second).0.unwrap();
    assert_eq!(machine.ready(0), 1 << 3);
}
