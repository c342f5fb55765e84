//! The store's ring and its keys.

use pvh_domain::{Effect, Shutdown};

use super::machine::{ARG, EVENT_CHANNEL_OP, Machine};

/// The store's page and its port.
const RING: u64 = 0xfeff_c000;
const PORT: u32 = 1;
/// Message types.
const READ: u32 = 2;
pub(crate) const WATCH: u32 = 4;
pub(crate) const WRITE: u32 = 11;
pub(crate) const WATCH_EVENT: u32 = 15;

/// Puts a request into the ring and tells the store.
pub(crate) fn request(machine: &mut Machine, kind: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap();
    let header = [kind, 7, 0, len];
    let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend(payload);
    let prod = machine.u32(RING + 2052);
    for (index, byte) in (prod..).zip(&bytes) {
        machine.put(RING + u64::from(index % 1024), &[*byte]);
    }
    let len = u32::try_from(bytes.len()).unwrap();
    machine.put_u32(RING + 2052, &[prod.wrapping_add(len)]);
    assert_eq!(machine.send(0, PORT), 0);
}

/// Takes a message out of the ring: its type and payload.
pub(crate) fn reply(machine: &Machine) -> Option<(u32, Vec<u8>)> {
    let (cons, prod) = (machine.u32(RING + 2056), machine.u32(RING + 2060));
    let byte = |index: u32| machine.bytes::<1>(RING + 1024 + u64::from(index % 1024))[0];
    let word = |at: u32| u32::from_le_bytes([0, 1, 2, 3].map(|offset| byte(at + offset)));
    if cons == prod {
        return None;
    }
    let (kind, len) = (word(cons), word(cons + 12));
    let payload = (0..len).map(|offset| byte(cons + 16 + offset)).collect();
    machine.put_u32(RING + 2056, &[cons + 16 + len]);
    Some((kind, payload))
}

pub(crate) fn read(machine: &mut Machine, path: &str) -> Vec<u8> {
    let mut payload = path.as_bytes().to_vec();
    payload.push(0);
    request(machine, READ, &payload);
    let (kind, payload) = reply(machine).unwrap();
    assert_eq!(kind, READ, "{path}");
    payload
}

fn ask(machine: &mut Machine, kind: Shutdown) {
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    domain.request_shutdown(&machine.memory, machine.now, kind, effects);
}

#[test]
fn a_guest_reads_its_keys() {
    let mut machine = Machine::ready(2);
    for (path, want) in [
        ("name", "guest"),
        ("domid", "5"),
        ("vm", "/vm/01234567-89ab-cdef-0000-00000000002a"),
        ("memory/target", "1024"),
        ("store/port", "1"),
        ("store/ring-ref", "1044476"),
        ("console/port", "2"),
        ("console/ring-ref", "1044479"),
        ("cpu/1/availability", "online"),
    ] {
        assert_eq!(read(&mut machine, path), want.as_bytes(), "{path}");
    }
}

#[test]
fn an_answer_raises_the_event_of_the_stores_port() {
    let mut machine = Machine::ready(1);
    machine.take();
    read(&mut machine, "name");
    let upcall = Effect::GlobalVector {
        vcpu: 0,
        vector: 0xf3,
    };
    assert_eq!(machine.take(), [upcall]);
    assert!(machine.is_pending(PORT));
}

#[test]
fn a_guest_that_watches_can_be_asked_to_stop() {
    let mut machine = Machine::ready(1);
    assert!(!machine.domain.can_be_asked());
    request(&mut machine, WATCH, b"control/shutdown\0token\0");
    assert_eq!(reply(&machine).unwrap().0, WATCH);
    assert_eq!(reply(&machine).unwrap().0, WATCH_EVENT, "at once");
    assert!(machine.domain.can_be_asked());
    machine.acknowledge(0);
    machine.take();
    ask(&mut machine, Shutdown::PowerOff);
    assert!(machine.domain.is_request_pending());
    assert_eq!(machine.take().len(), 1, "an upcall");
    let event = (WATCH_EVENT, b"control/shutdown\0token\0".to_vec());
    assert_eq!(reply(&machine), Some(event));
    assert_eq!(read(&mut machine, "control/shutdown"), b"poweroff");
    request(&mut machine, WRITE, b"control/shutdown\0");
    assert!(!machine.domain.is_request_pending());
}

#[test]
fn a_guest_that_watches_a_key_above_can_be_asked_too() {
    let mut machine = Machine::ready(1);
    request(&mut machine, WATCH, b"control\0token\0");
    assert!(machine.domain.can_be_asked());
    let mut other = Machine::ready(1);
    request(&mut other, WATCH, b"device\0token\0");
    assert!(!other.domain.can_be_asked());
}

#[test]
fn a_request_that_nobody_watches_is_kept_in_the_key() {
    let mut machine = Machine::ready(1);
    ask(&mut machine, Shutdown::Reboot);
    assert_eq!(read(&mut machine, "control/shutdown"), b"reboot");
}

#[test]
fn more_requests_than_one_call_serves_are_served_by_ticks() {
    let mut machine = Machine::ready(1);
    // Thirty requests, whose answers the ring has no room for.
    for _ in 0..30 {
        let mut payload = b"name\0".to_vec();
        payload.resize(24, 0);
        request(&mut machine, 5, &payload);
    }
    for _ in 0..100 {
        if machine.deadline_ns() != Some(0) {
            break;
        }
        machine.tick_at(super::machine::START_NS);
    }
    assert_eq!(machine.deadline_ns(), None, "it waits for room");
    let mut answers = 0;
    while reply(&machine).is_some() {
        answers += 1;
        machine.send(0, PORT);
    }
    assert_eq!(answers, 30);
}

#[test]
fn a_guest_may_close_the_port_and_join_again() {
    let mut machine = Machine::ready(1);
    machine.put_u32(ARG, &[PORT]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[3, ARG]), 0);
    assert_eq!(machine.domain.service_ports()[0], None);
    ask(&mut machine, Shutdown::Halt);
    machine.put_u32(ARG, &[0, 1, 0]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[0, ARG]), 0);
    assert_eq!(machine.u32(ARG + 8), PORT, "the lowest that is free");
    assert_eq!(read(&mut machine, "control/shutdown"), b"halt");
}
