//! Ports joined to each other, and to the embedder's.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, PortStatus},
};
use pvh_domain::parts::event::{HostPort, Signal};

use crate::machine::{ME, Machine, SHARED_INFO, two_level, upcall_at};

const EINVAL: Errno = Errno(22);

fn join(machine: &mut Machine, remote: DomId, port: Port) -> (Result<Port, Errno>, Vec<Signal>) {
    machine.call(|events, d| events.bind_interdomain(d, remote, port))
}

/// Two ports of the guest, joined, with nothing pending.
fn loopback(machine: &mut Machine) -> [Port; 2] {
    let first = machine.unbound(DomId::SELF).unwrap();
    let second = join(machine, DomId::SELF, first).0.unwrap();
    machine.set_word(SHARED_INFO + 2048, 0);
    machine.set_word(SHARED_INFO + 8, 0);
    machine.set_word(upcall_at(0), 0);
    [first, second]
}

#[test]
fn bind_interdomain_leaves_the_local_port_pending() {
    let mut machine = two_level(1);
    let first = machine.unbound(DomId::SELF).unwrap();
    let (second, signals) = join(&mut machine, DomId::SELF, first);
    assert_eq!(second, Ok(Port(2)));
    assert_eq!(signals, [Signal::Upcall(0)]);
    assert_eq!(machine.word(SHARED_INFO + 2048), 1 << 2);
}

#[test]
fn the_errors_of_bind_interdomain() {
    let mut machine = two_level(1);
    let other = machine.unbound(DomId(9)).unwrap();
    let ipi = machine.ipi(0);
    assert_eq!(
        join(&mut machine, DomId(9), other).0,
        Err(Errno(3)),
        "ESRCH"
    );
    assert_eq!(
        join(&mut machine, ME, other).0,
        Err(EINVAL),
        "kept for domain 9"
    );
    assert_eq!(join(&mut machine, ME, ipi).0, Err(EINVAL), "not unbound");
    assert_eq!(
        join(&mut machine, ME, Port(3)).0,
        Err(EINVAL),
        "the port it would get"
    );
    assert_eq!(join(&mut machine, ME, Port(64)).0, Err(EINVAL), "not valid");
    for port in [0, 1, u32::MAX] {
        assert_eq!(join(&mut machine, DomId(0), Port(port)).0, Err(EINVAL));
    }
    assert_eq!(machine.ipi(0), Port(3), "a failed bind keeps no port");
}

#[test]
fn each_end_of_a_loopback_signals_the_other() {
    let mut machine = two_level(2);
    let [first, second] = loopback(&mut machine);
    machine.events.bind_vcpu(second, 1).unwrap();
    let status = machine.events.status(ME, first).unwrap();
    assert_eq!(status.status, PortStatus(2));
    assert_eq!((status.detail, status.remote_port), (5, second));
    assert_eq!(machine.send(first), (Ok(()), vec![Signal::Upcall(1)]));
    assert_eq!(machine.word(SHARED_INFO + 2048), 1 << second.0);
    assert_eq!(machine.send(second), (Ok(()), vec![Signal::Upcall(0)]));
}

#[test]
fn closing_one_end_leaves_the_other_unbound_for_the_closer_with_its_vcpu() {
    let mut machine = two_level(2);
    let [first, second] = loopback(&mut machine);
    machine.events.bind_vcpu(first, 1).unwrap();
    machine.close(second).unwrap();
    let status = machine.events.status(ME, first).unwrap();
    assert_eq!(
        (status.status, status.detail, status.vcpu),
        (PortStatus(1), 5, 1)
    );
    assert_eq!(machine.send(first), (Ok(()), vec![]), "dropped");
    assert_eq!(join(&mut machine, ME, first).0, Ok(second));
}

#[test]
fn reset_closes_both_ends_of_a_loopback() {
    let mut machine = two_level(1);
    let ends = loopback(&mut machine);
    machine.run(|events, d| events.reset(d, ME)).unwrap();
    for end in ends {
        assert_eq!(
            machine.events.status(ME, end).unwrap().status,
            PortStatus(0)
        );
    }
}

#[test]
fn a_service_and_the_guest_signal_each_other() {
    let mut machine = two_level(1);
    let (xenstore, far) = machine.run(|events, d| events.open_service(d)).unwrap();
    let (console, other) = machine.run(|events, d| events.open_service(d)).unwrap();
    assert_eq!(
        (xenstore, console),
        (Port(1), Port(2)),
        "as a toolstack has them"
    );
    let status = machine.events.status(ME, xenstore).unwrap();
    assert_eq!(
        (status.status, status.detail),
        (PortStatus(2), 0),
        "joined to domain 0"
    );
    assert_eq!(status.remote_port, Port(far.0));
    assert_eq!(machine.send(xenstore), (Ok(()), vec![Signal::Host(far)]));
    let ((), signals) = machine.call(|events, d| events.send_from_host(d, other));
    assert_eq!(signals, [Signal::Upcall(0)]);
    assert_eq!(machine.word(SHARED_INFO + 2048), 1 << console.0);
}

#[test]
fn a_service_that_the_guest_closed_can_be_joined_again() {
    let mut machine = two_level(1);
    let (port, far) = machine.run(|events, d| events.open_service(d)).unwrap();
    let taken = join(&mut machine, DomId(0), Port(far.0));
    assert_eq!(taken.0, Err(EINVAL), "joined already");
    machine.close(port).unwrap();
    assert_eq!(machine.events.host_peer(far), None);
    let ((), signals) = machine.call(|events, d| events.send_from_host(d, far));
    assert_eq!(signals, [], "dropped");
    let (again, signals) = join(&mut machine, DomId(0), Port(far.0));
    assert_eq!((again, signals), (Ok(Port(1)), vec![Signal::Upcall(0)]));
    assert_eq!(machine.events.host_peer(far), Some(Port(1)));
}

#[test]
fn a_service_that_goes_leaves_a_port_for_its_successor() {
    let mut machine = two_level(1);
    let (port, far) = machine.run(|events, d| events.open_service(d)).unwrap();
    machine.events.close_host(far);
    assert_eq!(
        machine.events.status(ME, port).unwrap().status,
        PortStatus(1)
    );
    assert_eq!(machine.send(port), (Ok(()), vec![]));
    assert_eq!(
        machine.events.connect_host(port),
        Ok(far),
        "its number is free"
    );
    assert_eq!(machine.events.connect_host(port), Err(EINVAL));
    assert_eq!(machine.events.connect_host(Port(64)), Err(EINVAL));
    machine.events.close_host(HostPort(0));
    machine.events.close_host(HostPort(7));
    assert_eq!(machine.events.host_peer(far), Some(port));
}
