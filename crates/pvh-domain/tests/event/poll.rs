//! What `SCHEDOP_poll` needs of the ports.

use pvh_abi::{Errno, event_channel::Port};
use pvh_domain::parts::event::{PollAnswer, Signal};

use crate::machine::{MASKED, Machine, PENDING, SHARED_INFO, fifo, two_level};

fn poll(machine: &mut Machine, vcpu: u32, ports: &[Port]) -> Result<PollAnswer, Errno> {
    let ports = ports.iter().map(|port| Ok(*port));
    machine.run(|events, delivery| events.poll(delivery, vcpu, ports))
}

#[test]
fn a_pending_port_answers_at_once_masked_or_not() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 2560, u32::MAX);
    assert_eq!(poll(&mut machine, 0, &[port]), Ok(PollAnswer::Wait));
    machine.set_word(SHARED_INFO + 2048, 1 << port.0);
    assert_eq!(
        poll(&mut machine, 0, &[Port(0), port]),
        Ok(PollAnswer::Ready)
    );
}

#[test]
fn ports_are_looked_at_in_order_until_one_is_pending_or_refused() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 2048, 1 << port.0);
    assert_eq!(
        poll(&mut machine, 0, &[port, Port(64)]),
        Ok(PollAnswer::Ready)
    );
    assert_eq!(poll(&mut machine, 0, &[Port(64), port]), Err(Errno(22)));
    let broken = [Ok(Port(3)), Err(Errno(14))];
    let refused = machine.run(|events, d| events.poll(d, 0, broken));
    assert_eq!(refused, Err(Errno(14)), "the pointer's EFAULT");
    assert_eq!(poll(&mut machine, 1, &[port]), Err(Errno(2)));
}

#[test]
fn an_event_wakes_each_poller_of_its_port_or_of_several_ports_once() {
    for mut machine in [two_level(4), fifo(4)] {
        let (port, other) = (machine.ipi(0), machine.ipi(0));
        assert_eq!(poll(&mut machine, 1, &[port]), Ok(PollAnswer::Wait));
        assert_eq!(poll(&mut machine, 2, &[other]), Ok(PollAnswer::Wait));
        assert_eq!(poll(&mut machine, 3, &[other, other]), Ok(PollAnswer::Wait));
        let woken = [Signal::Upcall(0), Signal::Unblock(1), Signal::Unblock(3)];
        assert_eq!(machine.send(port).1, woken, "pollers last");
        machine.set_word(SHARED_INFO + 2048, 0);
        machine.set_event(port, 0);
        assert!(!machine.send(port).1.contains(&Signal::Unblock(1)));
    }
}

#[test]
fn an_event_that_was_pending_already_wakes_nobody() {
    let mut machine = fifo(2);
    let port = machine.ipi(0);
    machine.set_event(port, PENDING | MASKED);
    machine.events.stop_poll(1);
    let other = machine.ipi(0);
    assert_eq!(poll(&mut machine, 1, &[other, other]), Ok(PollAnswer::Wait));
    assert_eq!(machine.send(port).1, []);
}

#[test]
fn a_masked_event_wakes_pollers_without_an_upcall() {
    let mut machine = fifo(2);
    let port = machine.ipi(0);
    machine.set_event(port, MASKED);
    assert_eq!(poll(&mut machine, 1, &[port]), Ok(PollAnswer::Wait));
    assert_eq!(machine.send(port).1, [Signal::Unblock(1)]);
}

#[test]
fn a_poll_that_ended_is_not_woken() {
    let mut machine = two_level(2);
    let port = machine.ipi(0);
    assert_eq!(poll(&mut machine, 1, &[port]), Ok(PollAnswer::Wait));
    machine.events.stop_poll(1);
    assert_eq!(machine.send(port).1, [Signal::Upcall(0)]);
}

#[test]
fn a_poll_for_no_port_is_woken_by_any() {
    let mut machine = two_level(2);
    let port = machine.ipi(0);
    assert_eq!(poll(&mut machine, 1, &[]), Ok(PollAnswer::Wait));
    assert_eq!(
        machine.send(port).1,
        [Signal::Upcall(0), Signal::Unblock(1)]
    );
}
