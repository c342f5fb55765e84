//! Each operation: what it does, and each errno that the ABI lists for it.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, PortStatus, Virq},
};
use pvh_domain::parts::event::Signal;
use pvh_hypercall::group::{ControlBlock, PortState};

use crate::machine::{
    ARRAY_GFN, CONTROL_GFN, END_GFN, ME, Machine, block, control_at, fifo, ram, two_level,
};

const ENOENT: Errno = Errno(2);
const ESRCH: Errno = Errno(3);
const EPERM: Errno = Errno(1);
const EACCES: Errno = Errno(13);
const EEXIST: Errno = Errno(17);
const EINVAL: Errno = Errno(22);
const ENOSPC: Errno = Errno(28);
const ENOSYS: Errno = Errno(38);
const EOPNOTSUPP: Errno = Errno(95);

fn state(machine: &Machine, port: Port) -> (u32, u32, u32, u32) {
    let PortState {
        status,
        vcpu,
        detail,
        remote_port,
    } = machine.events.status(DomId::SELF, port).unwrap();
    (status.0, vcpu, detail, remote_port.0)
}

#[test]
fn alloc_unbound_takes_the_lowest_free_port_and_port_0_is_never_given() {
    let mut machine = two_level(1);
    let ports = [(); 3].map(|()| machine.unbound(DomId(0)).unwrap());
    assert_eq!(ports, [Port(1), Port(2), Port(3)]);
    machine.close(Port(2)).unwrap();
    assert_eq!(machine.unbound(DomId(9)), Ok(Port(2)));
    assert_eq!(
        state(&machine, Port(2)),
        (1, 0, 9, 0),
        "unbound, for domain 9"
    );
}

#[test]
fn alloc_unbound_for_oneself_names_the_own_id() {
    let mut machine = two_level(1);
    let port = machine.unbound(DomId(0x7ff0)).unwrap();
    assert_eq!(state(&machine, port), (1, 0, 5, 0));
    let by_id = machine.run(|events, delivery| events.alloc_unbound(delivery, ME, ME));
    assert_eq!(by_id, Ok(Port(2)));
}

#[test]
fn alloc_unbound_for_another_domain_is_eperm_and_for_an_unknown_one_esrch() {
    let mut machine = two_level(1);
    let mut alloc = |dom| machine.run(|events, d| events.alloc_unbound(d, DomId(dom), ME));
    assert_eq!(alloc(0), Err(EPERM));
    assert_eq!(alloc(6), Err(ESRCH));
    assert_eq!(alloc(0x7ff2), Err(ESRCH), "the owner of Xen's pages");
}

#[test]
fn every_bind_past_the_toolstacks_maximum_is_enospc() {
    let mut machine = Machine::new(ram(), 1, 3);
    for _ in 0..3 {
        machine.ipi(0);
    }
    assert_eq!(machine.unbound(ME), Err(ENOSPC));
    assert_eq!(machine.run(|events, d| events.bind_ipi(d, 0)), Err(ENOSPC));
    let virq = machine.run(|events, d| events.bind_virq(d, Virq::TIMER, 0));
    assert_eq!(virq, Err(ENOSPC));
    assert_eq!(machine.run(|events, d| events.bind_pirq(d, 1)), Err(ENOSPC));
    let joined = machine.run(|events, d| events.bind_interdomain(d, ME, Port(999)));
    assert_eq!(joined, Err(ENOSPC), "before the remote port is looked at");
    let xens = machine.run(|events, d| events.alloc_xen_port(d, 0, ME));
    assert_eq!(xens, Err(ENOSPC));
}

#[test]
fn bind_virq_makes_a_port_that_is_raised_by_its_number() {
    let mut machine = two_level(2);
    let port = machine
        .run(|events, d| events.bind_virq(d, Virq(0), 1))
        .unwrap();
    assert_eq!(state(&machine, port), (4, 1, 0, 0));
    let ((), signals) = machine.call(|events, d| events.raise_virq(d, 1, Virq::TIMER));
    assert_eq!(signals, [Signal::Upcall(1)]);
    let ((), signals) = machine.call(|events, d| events.raise_virq(d, 0, Virq::TIMER));
    assert_eq!(signals, [], "vCPU 0 has bound none");
}

#[test]
fn bind_virq_errors_are_in_xens_order() {
    let mut machine = two_level(2);
    let mut bind = |virq, vcpu| machine.run(|events, d| events.bind_virq(d, Virq(virq), vcpu));
    assert_eq!(bind(24, 9), Err(EINVAL), "no such number");
    assert_eq!(bind(u32::MAX, 0), Err(EINVAL));
    assert_eq!(bind(2, 9), Err(EINVAL), "a global one, before the vCPU");
    assert_eq!(
        bind(2, 1),
        Err(EINVAL),
        "a global one on another vCPU than 0"
    );
    assert_eq!(bind(11, 1), Err(EINVAL), "ARGO is global in 4.17");
    assert_eq!(bind(0, 2), Err(ENOENT));
    for per_vcpu in [0, 1, 7, 13] {
        assert!(bind(per_vcpu, 1).is_ok(), "virq {per_vcpu}");
        assert_eq!(bind(per_vcpu, 1), Err(EEXIST), "virq {per_vcpu}");
    }
    assert!(bind(3, 0).is_ok(), "4.17 lets a guest bind a global one");
    assert_eq!(bind(3, 0), Err(EEXIST));
}

#[test]
fn a_global_virq_is_raised_on_the_vcpu_its_port_tells() {
    let mut machine = two_level(2);
    let port = machine
        .run(|events, d| events.bind_virq(d, Virq(3), 0))
        .unwrap();
    machine.events.bind_vcpu(port, 1).unwrap();
    let ((), signals) = machine.call(|events, d| events.raise_virq(d, 0, Virq(3)));
    assert_eq!(signals, [Signal::Upcall(1)]);
    machine.close(port).unwrap();
    let again = machine.run(|events, d| events.bind_virq(d, Virq(3), 0));
    assert_eq!(again, Ok(port), "closing frees the number too");
}

#[test]
fn bind_pirq_knows_the_numbers_the_domain_has() {
    let mut machine = two_level(2);
    let mut bind = |pirq| machine.run(|events, d| events.bind_pirq(d, pirq));
    assert_eq!(bind(16), Err(EINVAL));
    assert_eq!(bind(15), Ok(Port(1)));
    assert_eq!(bind(15), Err(EEXIST));
    assert_eq!(state(&machine, Port(1)), (3, 0, 15, 0));
    assert_eq!(
        machine.send(Port(1)).0,
        Err(EINVAL),
        "nobody sends to a pirq"
    );
    assert_eq!(machine.events.bind_vcpu(Port(1), 1), Ok(()));
    machine.close(Port(1)).unwrap();
    assert_eq!(
        machine.run(|events, d| events.bind_pirq(d, 15)),
        Ok(Port(1))
    );
}

#[test]
fn bind_ipi_makes_a_port_that_signals_its_vcpu() {
    let mut machine = two_level(2);
    let port = machine.ipi(1);
    assert_eq!(state(&machine, port), (5, 1, 0, 0));
    assert_eq!(machine.send(port), (Ok(()), vec![Signal::Upcall(1)]));
    assert_eq!(machine.run(|events, d| events.bind_ipi(d, 2)), Err(ENOENT));
}

#[test]
fn close_of_a_port_that_is_not_the_guests_to_close_is_einval() {
    let mut machine = two_level(1);
    let xens = machine.xens();
    assert_eq!(machine.close(Port(0)), Err(EINVAL), "reserved");
    assert_eq!(machine.close(Port(40)), Err(EINVAL), "free");
    assert_eq!(machine.close(Port(64)), Err(EINVAL), "not valid");
    assert_eq!(machine.close(Port(u32::MAX)), Err(EINVAL));
    assert_eq!(machine.close(xens), Err(EINVAL));
    let port = machine.ipi(0);
    assert_eq!(machine.close(port), Ok(()));
    assert_eq!(machine.close(port), Err(EINVAL));
    assert_eq!(state(&machine, port), (0, 0, 0, 0));
}

#[test]
fn send_is_einval_for_ports_without_a_receiver() {
    let mut machine = two_level(1);
    let xens = machine.xens();
    let virq = machine
        .run(|events, d| events.bind_virq(d, Virq::TIMER, 0))
        .unwrap();
    for port in [Port(64), Port(40), Port(0), xens, virq] {
        assert_eq!(machine.send(port), (Err(EINVAL), vec![]), "{port:?}");
    }
}

#[test]
fn send_on_an_unbound_port_is_dropped() {
    let mut machine = two_level(1);
    let port = machine.unbound(DomId(0)).unwrap();
    assert_eq!(machine.send(port), (Ok(()), vec![]));
}

#[test]
fn status_of_another_domain_is_eperm_and_of_an_unknown_one_esrch() {
    let mut machine = two_level(1);
    let xens = machine.xens();
    let status = |dom, port| machine.events.status(DomId(dom), port);
    assert_eq!(status(6, Port(1)), Err(ESRCH));
    assert_eq!(status(0, Port(1)), Err(EPERM));
    assert_eq!(status(5, Port(64)), Err(EINVAL));
    assert_eq!(status(5, xens), Err(EACCES), "in 4.15 to 4.18");
    let closed = status(5, Port(63)).unwrap();
    assert_eq!(closed.status, PortStatus(0), "valid and not in use");
    assert_eq!(
        status(0x7ff0, Port(0)).unwrap().status,
        PortStatus(0),
        "reserved"
    );
}

#[test]
fn ports_become_valid_64_at_a_time_and_stay_so() {
    let mut machine = two_level(1);
    for _ in 1..64 {
        machine.ipi(0);
    }
    assert_eq!(machine.events.status(ME, Port(64)), Err(EINVAL));
    let port = machine.ipi(0);
    assert_eq!(port, Port(64));
    machine.close(port).unwrap();
    assert_eq!(state(&machine, Port(127)), (0, 0, 0, 0));
    assert_eq!(machine.events.status(ME, Port(128)), Err(EINVAL));
}

#[test]
fn bind_vcpu_moves_ports_that_are_not_bound_to_one_vcpu() {
    let mut machine = two_level(3);
    let port = machine.unbound(ME).unwrap();
    assert_eq!(machine.events.bind_vcpu(port, 2), Ok(()));
    assert_eq!(state(&machine, port).1, 2);
    assert_eq!(machine.events.bind_vcpu(port, 3), Err(ENOENT));
    assert_eq!(
        machine.events.bind_vcpu(Port(64), 3),
        Err(ENOENT),
        "the vCPU first"
    );
    let ipi = machine.ipi(0);
    let timer = machine
        .run(|events, d| events.bind_virq(d, Virq::TIMER, 0))
        .unwrap();
    let xens = machine.xens();
    for port in [Port(64), Port(40), Port(0), ipi, timer, xens] {
        assert_eq!(machine.events.bind_vcpu(port, 1), Err(EINVAL), "{port:?}");
    }
}

#[test]
fn unmask_of_a_port_that_is_not_valid_is_einval_and_of_one_not_in_use_0() {
    let mut machine = two_level(1);
    let xens = machine.xens();
    assert_eq!(machine.unmask(Port(64)), (Err(EINVAL), vec![]));
    for port in [Port(0), Port(40), xens] {
        assert_eq!(machine.unmask(port), (Ok(()), vec![]), "{port:?}");
    }
}

#[test]
fn reset_closes_every_port_but_xens() {
    let mut machine = two_level(2);
    let xens = machine.xens();
    let (console, host) = machine.run(|events, d| events.open_service(d)).unwrap();
    machine.ipi(1);
    machine
        .run(|events, d| events.bind_virq(d, Virq::TIMER, 1))
        .unwrap();
    assert_eq!(
        machine.run(|events, d| events.reset(d, DomId::SELF)),
        Ok(())
    );
    for port in [2, 3, 4].map(Port) {
        assert_eq!(state(&machine, port).0, 0, "{port:?}");
    }
    assert_eq!(machine.events.status(ME, xens), Err(EACCES), "still there");
    let timer = machine.run(|events, d| events.bind_virq(d, Virq::TIMER, 1));
    assert_eq!(timer, Ok(console), "its number is free too");
    let again = machine.run(|events, d| events.bind_interdomain(d, DomId(0), Port(host.0)));
    assert!(again.is_ok(), "the console can be joined again");
}

#[test]
fn reset_of_another_domain_is_eperm_and_of_an_unknown_one_esrch() {
    let mut machine = two_level(1);
    let mut reset = |dom| machine.run(|events, d| events.reset(d, DomId(dom)));
    assert_eq!(reset(0), Err(EPERM));
    assert_eq!(reset(6), Err(ESRCH));
    assert_eq!(reset(5), Ok(()));
}

#[test]
fn init_control_errors_are_in_xens_order() {
    let mut machine = two_level(2);
    let mut init = |vcpu, gfn, offset| {
        let block = ControlBlock { vcpu, gfn, offset };
        machine.run(|events, d| events.init_control(d, &block))
    };
    assert_eq!(init(2, END_GFN, 9), Err(ENOENT));
    assert_eq!(init(0, CONTROL_GFN, 4025), Err(EINVAL));
    assert_eq!(
        init(0, CONTROL_GFN, 4032),
        Err(EINVAL),
        "aligned, but over the end"
    );
    assert_eq!(init(0, CONTROL_GFN, 4), Err(EINVAL));
    for gfn in [END_GFN, u64::MAX, u64::MAX / 4096, 1 << 52] {
        assert_eq!(init(0, gfn, 0), Err(EINVAL), "{gfn:#x}");
    }
    assert_eq!(init(0, CONTROL_GFN, 4024), Ok(17));
    assert_eq!(init(0, CONTROL_GFN, 0), Err(EINVAL), "it has one");
    assert_eq!(
        init(1, CONTROL_GFN, 0),
        Ok(17),
        "the same frame may serve twice"
    );
    assert!(machine.events.is_fifo());
}

#[test]
fn a_first_init_control_that_fails_leaves_the_two_level_abi() {
    let mut machine = two_level(1);
    let bad = ControlBlock {
        vcpu: 0,
        gfn: END_GFN,
        offset: 0,
    };
    assert_eq!(
        machine.run(|events, d| events.init_control(d, &bad)),
        Err(EINVAL)
    );
    assert!(!machine.events.is_fifo());
    let expanded = machine.run(|events, d| events.expand_array(d, ARRAY_GFN));
    assert_eq!(expanded, Err(EOPNOTSUPP));
    assert_eq!(
        machine.run(|events, d| events.init_control(d, &block(0))),
        Ok(17)
    );
}

#[test]
fn expand_array_takes_128_pages_of_ram() {
    let mut machine = fifo(1);
    let mut expand = |gfn| machine.run(|events, d| events.expand_array(d, gfn));
    assert_eq!(expand(END_GFN), Err(EINVAL));
    for page in 1..128 {
        assert_eq!(expand(ARRAY_GFN), Ok(()), "page {page}");
    }
    assert_eq!(expand(ARRAY_GFN), Err(ENOSPC));
    assert_eq!(
        expand(END_GFN),
        Err(ENOSPC),
        "before the frame is looked at"
    );
}

#[test]
fn set_priority_errors_are_in_xens_order() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    assert_eq!(machine.events.set_priority(Port(64), 16), Err(EINVAL));
    assert_eq!(
        machine.events.set_priority(Port(40), 16),
        Err(ENOSYS),
        "two-level"
    );
    machine.turn_fifo_on(1);
    let xens = machine.xens();
    assert_eq!(machine.events.set_priority(Port(64), 16), Err(EINVAL));
    for unusable in [Port(0), Port(40), xens] {
        assert_eq!(machine.events.set_priority(unusable, 16), Err(EACCES));
    }
    assert_eq!(machine.events.set_priority(port, 16), Err(EINVAL));
    assert_eq!(machine.events.set_priority(port, 256), Err(EINVAL));
    assert_eq!(machine.events.set_priority(port, 15), Ok(()));
    machine.send(port).0.unwrap();
    assert_eq!(machine.ready(0), 1 << 15);
    assert_eq!(machine.word(control_at(0) + 8 + 60), port.0, "head[15]");
}
