//! What back ends of the host do with a domain.

use pvh_abi::{DomId, Errno, event_channel::Port};
use pvh_domain::{Effect, HostPort};
use pvh_xenbus::{Change, Device};
use pvh_xenstore::{Access, Permission};

use super::{
    machine::{ARG, EVENT_CHANNEL_OP, Machine, SELF},
    store::{WATCH, WATCH_EVENT, WRITE, read, reply, request},
};

const DISK: Device = Device {
    guest: DomId(5),
    class: "vbd",
    id: 51712,
};

/// `EVTCHNOP_alloc_unbound` for a domain; answers the port.
fn alloc_unbound(machine: &mut Machine, remote: u64) -> u32 {
    machine.put_u64(ARG, &[SELF | remote << 16]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[6, ARG]), 0);
    machine.u32(ARG + 4)
}

fn close(machine: &mut Machine, port: u32) {
    machine.put_u32(ARG, &[port]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[3, ARG]), 0);
}

/// `EVTCHNOP_status`; answers the status and what follows it.
fn status(machine: &mut Machine, port: u32) -> [u32; 2] {
    machine.put_u64(ARG, &[SELF | u64::from(port) << 32]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[5, ARG]), 0);
    [machine.u32(ARG + 8), machine.u32(ARG + 16)]
}

fn notify(machine: &mut Machine, end: HostPort) {
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    domain.notify_port(&machine.memory, machine.now, end, effects);
}

fn change(machine: &mut Machine, changes: &[Change]) -> Result<(), Errno> {
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    let changed = domain.change_store(&machine.memory, machine.now, changes, effects);
    changed.map_err(|error| error.errno)
}

fn write(path: &str, value: &str) -> Change {
    Change::Write {
        path: path.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn events_go_both_ways_through_a_bound_port() {
    let mut machine = Machine::ready(1);
    let port = alloc_unbound(&mut machine, 0);
    let end = machine.domain.bind_port(Port(port)).unwrap();
    assert!(!machine.is_pending(port), "binding raises nothing");
    machine.take();
    assert_eq!(machine.send(0, port), 0);
    assert_eq!(machine.take(), [Effect::Notified(end)]);
    notify(&mut machine, end);
    let upcall = Effect::GlobalVector {
        vcpu: 0,
        vector: 0xf3,
    };
    assert_eq!(machine.take(), [upcall]);
    assert!(machine.is_pending(port));
    assert_eq!(status(&mut machine, port)[0], 2, "joined to a port");
}

#[test]
fn only_a_port_that_waits_for_domain_0_is_bound() {
    let mut machine = Machine::ready(1);
    let mine = alloc_unbound(&mut machine, SELF);
    let virq = machine.bind_virq(0, 0).unwrap();
    for port in [0, 1, 2, mine, virq, 1023, 1024, u32::MAX] {
        let bound = machine.domain.bind_port(Port(port));
        assert_eq!(bound, Err(Errno(22)), "{port}");
    }
    let port = alloc_unbound(&mut machine, 0);
    assert!(machine.domain.bind_port(Port(port)).is_ok());
    assert_eq!(machine.domain.bind_port(Port(port)), Err(Errno(22)), "once");
}

#[test]
fn an_end_that_is_given_up_lets_the_port_wait_again() {
    let mut machine = Machine::ready(1);
    let port = alloc_unbound(&mut machine, 0);
    let end = machine.domain.bind_port(Port(port)).unwrap();
    machine.domain.unbind_port(end);
    assert_eq!(status(&mut machine, port), [1, 0], "waits for domain 0");
    machine.take();
    assert_eq!(machine.send(0, port), 0);
    notify(&mut machine, end);
    assert_eq!(machine.take(), []);
    assert_eq!(
        machine.domain.bind_port(Port(port)),
        Ok(end),
        "the free end"
    );
}

#[test]
fn a_port_that_the_guest_closes_gets_no_events() {
    let mut machine = Machine::ready(1);
    let port = alloc_unbound(&mut machine, 0);
    let end = machine.domain.bind_port(Port(port)).unwrap();
    close(&mut machine, port);
    // The guest uses the number for something else.
    let own = machine.bind_ipi(0);
    assert_eq!(own, port);
    machine.take();
    notify(&mut machine, end);
    assert_eq!(machine.take(), []);
    assert!(!machine.is_pending(port));
    machine.domain.unbind_port(end);
    assert_eq!(status(&mut machine, port)[0], 5, "still the guest's");
}

#[test]
fn the_ports_of_console_and_store_stay_the_domain_s() {
    let mut machine = Machine::ready(1);
    for end in [0, 1, 2, 3, u32::MAX] {
        machine.domain.unbind_port(HostPort(end));
    }
    assert_eq!(
        machine.domain.service_ports(),
        [Some(Port(1)), Some(Port(2))]
    );
    assert_eq!(read(&mut machine, "name"), b"guest");
}

#[test]
fn a_thousand_reconnections_use_one_end() {
    let mut machine = Machine::ready(1);
    let mut ends = Vec::new();
    for _ in 0..1000 {
        let port = alloc_unbound(&mut machine, 0);
        ends.push(machine.domain.bind_port(Port(port)).unwrap());
        close(&mut machine, port);
        machine.domain.unbind_port(*ends.last().unwrap());
    }
    ends.dedup();
    assert_eq!(ends.len(), 1);
}

#[test]
fn a_device_that_is_made_fires_the_guest_s_watch_and_can_be_read() {
    let mut machine = Machine::ready(1);
    request(&mut machine, WATCH, b"device\0token\0");
    assert_eq!(reply(&machine).unwrap().0, WATCH);
    assert_eq!(reply(&machine).unwrap().0, WATCH_EVENT, "at once");
    machine.acknowledge(0);
    machine.take();
    let device = DISK.create(&[("virtual-device", "51712")], &[("mode", "w")]);
    assert_eq!(change(&mut machine, &device), Ok(()));
    assert_eq!(machine.take().len(), 1, "an upcall");
    let event = (WATCH_EVENT, b"device/vbd/51712\0token\0".to_vec());
    assert_eq!(reply(&machine), Some(event));
    while reply(&machine).is_some() {}
    assert_eq!(read(&mut machine, "device/vbd/51712/state"), b"1");
    let back = read(&mut machine, "device/vbd/51712/backend");
    assert_eq!(back, b"/local/domain/0/backend/vbd/5/51712");
    let mode = read(&mut machine, "/local/domain/0/backend/vbd/5/51712/mode");
    assert_eq!(mode, b"w");
    request(
        &mut machine,
        WRITE,
        b"/local/domain/0/backend/vbd/5/51712/mode\0r",
    );
    assert_eq!(reply(&machine).unwrap().1, b"EACCES\0");
    assert_eq!(change(&mut machine, &DISK.remove()), Ok(()));
    assert_eq!(machine.domain.store().read(&DISK.back_path()), None);
    assert_eq!(change(&mut machine, &DISK.remove()), Ok(()), "again");
}

#[test]
fn a_watch_of_the_host_hears_what_the_guest_writes() {
    let mut machine = Machine::ready(1);
    change(&mut machine, &DISK.create(&[], &[])).unwrap();
    let connection = machine.domain.connect_to_store();
    let front = DISK.front_path();
    let watched = machine.domain.watch_store(connection, &front, b"0");
    assert_eq!(watched.map_err(|error| error.errno), Ok(()));
    let first = machine.domain.take_store_event(connection).unwrap();
    assert_eq!((first.path(), first.token()), (front.as_str(), &b"0"[..]));
    assert_eq!(machine.domain.take_store_event(connection), None);
    request(&mut machine, WRITE, b"device/vbd/51712/state\x003");
    assert_eq!(reply(&machine).unwrap().0, WRITE);
    let event = machine.domain.take_store_event(connection).unwrap();
    assert_eq!(event.path(), format!("{front}/state"));
    let state = machine.domain.store().read(&format!("{front}/state"));
    assert_eq!(state, Some(&b"3"[..]));
    machine
        .domain
        .unwatch_store(connection, &front, b"0")
        .unwrap();
    request(&mut machine, WRITE, b"device/vbd/51712/state\x004");
    assert_eq!(machine.domain.take_store_event(connection), None);
    machine.domain.disconnect_from_store(connection);
    let ended = machine.domain.watch_store(connection, &front, b"1");
    assert_eq!(ended.unwrap_err().errno, Errno(2));
}

#[test]
fn a_change_that_the_store_refuses_ends_the_list() {
    let mut machine = Machine::ready(1);
    let nobody = Change::Permit {
        path: "/local/domain/0/none".to_owned(),
        permissions: vec![Permission::new(DomId(5), Access::Both)],
    };
    let changes = [write("/tool/a", "1"), nobody, write("/tool/b", "2")];
    assert_eq!(change(&mut machine, &changes), Err(Errno(2)));
    let store = machine.domain.store();
    assert_eq!(store.read("/tool/a"), Some(&b"1"[..]));
    assert_eq!(store.read("/tool/b"), None);
}
