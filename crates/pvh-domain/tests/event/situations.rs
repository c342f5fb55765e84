//! The FIFO ABI, situation by situation.

use pvh_abi::{DomId, event_channel::Port};
use pvh_domain::parts::event::Signal;

use crate::machine::{LINKED, MASKED, Machine, PENDING, fifo, upcall_at};

/// Two ports of vCPU 0 with the default priority, 7.
fn two_ports() -> (Machine, Port, Port) {
    let mut machine = fifo(2);
    let ports = (machine.ipi(0), machine.ipi(0));
    (machine, ports.0, ports.1)
}

/// A port that may move between vCPUs, the embedder's end, and the machine.
fn movable() -> (Machine, Port, impl Fn(&mut Machine) -> Vec<Signal>) {
    let mut machine = fifo(2);
    let (port, far) = machine.run(|events, d| events.open_service(d)).unwrap();
    let raise =
        move |machine: &mut Machine| machine.call(|events, d| events.send_from_host(d, far)).1;
    (machine, port, raise)
}

#[test]
fn the_first_event_of_a_queue_is_its_head_with_ready_bit_and_upcall() {
    let (mut machine, port, _) = two_ports();
    assert_eq!(machine.send(port).1, [Signal::Upcall(0)]);
    assert_eq!(machine.event(port), PENDING | LINKED);
    assert_eq!(machine.head(0, 7), port.0);
    assert_eq!(machine.ready(0), 1 << 7);
    assert_eq!(machine.word(upcall_at(0)), 1);
}

#[test]
fn appended_behind_a_live_tail_is_no_ready_bit_and_no_upcall() {
    let (mut machine, first, second) = two_ports();
    machine.send(first).0.unwrap();
    machine.take_ready(0);
    assert_eq!(machine.send(second).1, [], "the consumer will come by");
    assert_eq!(machine.event(first), PENDING | LINKED | second.0);
    assert_eq!(machine.event(second), PENDING | LINKED);
    assert_eq!(machine.ready(0), 0);
    assert_eq!(machine.head(0, 7), first.0);
}

#[test]
fn already_linked_is_only_pending_again() {
    let (mut machine, port, _) = two_ports();
    machine.send(port).0.unwrap();
    machine.take_ready(0);
    machine.set_event(port, LINKED);
    assert_eq!(machine.send(port).1, []);
    assert_eq!(machine.event(port), PENDING | LINKED);
    assert_eq!(machine.ready(0), 0);
}

#[test]
fn a_popped_tail_gives_the_head_path() {
    let (mut machine, first, second) = two_ports();
    machine.send(first).0.unwrap();
    machine.take_ready(0);
    machine.pop(first);
    assert_eq!(machine.send(second).1, [Signal::Upcall(0)]);
    assert_eq!(machine.event(first), 0, "nothing is linked to it");
    assert_eq!(machine.head(0, 7), second.0);
    assert_eq!(machine.ready(0), 1 << 7);
}

#[test]
fn a_queues_own_popped_tail_is_not_linked_to_itself() {
    let (mut machine, port, _) = two_ports();
    machine.send(port).0.unwrap();
    machine.take_ready(0);
    machine.pop(port);
    assert_eq!(machine.send(port).1, [Signal::Upcall(0)]);
    assert_eq!(machine.event(port), PENDING | LINKED, "its link is 0");
    assert_eq!(machine.head(0, 7), port.0);
}

#[test]
fn a_popped_tail_that_moves_empties_the_old_queue() {
    let (mut machine, port, raise) = movable();
    let stays = machine.ipi(0);
    raise(&mut machine);
    machine.take_ready(0);
    machine.pop(port);
    machine.events.bind_vcpu(port, 1).unwrap();
    assert_eq!(raise(&mut machine), [Signal::Upcall(1)]);
    assert_eq!(machine.send(stays).1, [Signal::Upcall(0)]);
    assert_eq!(
        machine.event(port),
        PENDING | LINKED,
        "no link into the other queue"
    );
    assert_eq!((machine.head(0, 7), machine.head(1, 7)), (stays.0, port.0));
}

#[test]
fn a_popped_tail_that_changes_priority_empties_the_old_queue() {
    let (mut machine, first, second) = two_ports();
    machine.send(first).0.unwrap();
    machine.take_ready(0);
    machine.pop(first);
    machine.events.set_priority(first, 2).unwrap();
    assert_eq!(machine.send(first).1, [Signal::Upcall(0)]);
    assert_eq!(machine.take_ready(0), 1 << 2);
    assert_eq!(machine.send(second).1, [Signal::Upcall(0)]);
    assert_eq!(machine.event(first), PENDING | LINKED);
    assert_eq!(
        (machine.head(0, 2), machine.head(0, 7)),
        (first.0, second.0)
    );
}

#[test]
fn a_linked_port_stays_on_the_old_queue_when_its_vcpu_changes() {
    let (mut machine, port, raise) = movable();
    raise(&mut machine);
    machine.take_ready(0);
    machine.events.bind_vcpu(port, 1).unwrap();
    assert_eq!(raise(&mut machine), [], "vCPU 0 consumes it");
    assert_eq!((machine.ready(0), machine.ready(1)), (0, 0));
    machine.pop(port);
    assert_eq!(
        raise(&mut machine),
        [Signal::Upcall(1)],
        "from the next link on"
    );
    assert_eq!(machine.ready(1), 1 << 7);
}

#[test]
fn a_linked_port_stays_on_the_old_queue_when_its_priority_changes() {
    let (mut machine, port, second) = two_ports();
    machine.send(port).0.unwrap();
    machine.events.set_priority(port, 0).unwrap();
    machine.send(second).0.unwrap();
    assert_eq!(machine.event(port), PENDING | LINKED | second.0);
    assert_eq!(machine.ready(0), 1 << 7);
}

#[test]
fn the_first_raise_ever_leaves_queue_0_of_vcpu_0_alone() {
    let mut machine = fifo(2);
    let high = machine.ipi(0);
    machine.events.set_priority(high, 0).unwrap();
    machine.send(high).0.unwrap();
    let other = machine.ipi(1);
    machine.send(other).0.unwrap();
    let next = machine.ipi(0);
    machine.events.set_priority(next, 0).unwrap();
    machine.send(next).0.unwrap();
    assert_eq!(
        machine.event(high),
        PENDING | LINKED | next.0,
        "its tail is still known"
    );
}

#[test]
fn a_masked_event_is_pending_and_not_linked() {
    let (mut machine, port, _) = two_ports();
    machine.set_event(port, MASKED);
    assert_eq!(machine.send(port).1, []);
    assert_eq!(machine.event(port), MASKED | PENDING);
}

#[test]
fn a_stale_ready_bit_holds_the_upcall_back() {
    let (mut machine, port, _) = two_ports();
    machine.set_word(crate::machine::control_at(0), 1 << 7);
    assert_eq!(machine.send(port).1, []);
    assert_eq!(machine.event(port), PENDING | LINKED);
    assert_eq!(
        machine.head(0, 7),
        port.0,
        "the head is stored all the same"
    );
}

#[test]
fn unused_bits_of_a_tail_are_kept() {
    let (mut machine, first, second) = two_ports();
    machine.send(first).0.unwrap();
    machine.set_event(first, PENDING | LINKED | 0x0ffe_0000 | 99);
    machine.send(second).0.unwrap();
    assert_eq!(
        machine.event(first),
        PENDING | LINKED | 0x0ffe_0000 | second.0
    );
}

#[test]
fn a_port_closed_while_linked_is_not_handed_out_until_it_is_popped() {
    let (mut machine, port, second) = two_ports();
    machine.send(port).0.unwrap();
    machine.close(port).unwrap();
    assert_eq!(machine.event(port), LINKED, "no longer pending");
    assert_eq!(machine.ipi(0), Port(second.0 + 1));
    machine.pop(port);
    assert_eq!(machine.ipi(0), port);
}

#[test]
fn a_stale_linked_bit_makes_a_port_unusable() {
    let mut machine = fifo(1);
    machine.set_event(Port(1), LINKED);
    assert_eq!(machine.unbound(DomId::SELF), Ok(Port(2)));
}
