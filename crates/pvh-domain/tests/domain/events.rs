//! Event channels and upcalls.

use pvh_domain::Effect;

use super::machine::{
    ARG, EVENT_CHANNEL_OP, MEMORY_OP, Machine, NOWHERE, SELF, SHARED_INFO, VECTOR,
};

fn op(machine: &mut Machine, op: u64) -> i64 {
    machine.call(0, EVENT_CHANNEL_OP, &[op, ARG])
}

fn upcall(vcpu: u32) -> Effect {
    let vector = VECTOR;
    Effect::GlobalVector { vcpu, vector }
}

/// `EVTCHNOP_status` of a port: its status.
fn status(machine: &mut Machine, port: u32) -> u32 {
    machine.put_u32(ARG, &[0x7ff0, port, 0x5555, 0, 0, 0]);
    assert_eq!(op(machine, 5), 0);
    machine.u32(ARG + 8)
}

#[test]
fn the_store_has_port_1_and_the_console_port_2() {
    let mut machine = Machine::ready(1);
    for port in [1, 2] {
        assert_eq!(status(&mut machine, port), 2, "interdomain");
        assert_eq!(machine.u32(ARG + 16) & 0xffff, 0, "domain 0");
    }
    assert_eq!(machine.bind_ipi(0), 3);
    let [store, console] = machine.domain.service_ports();
    assert_eq!((store.unwrap().0, console.unwrap().0), (1, 2));
}

#[test]
fn an_ipi_sets_pending_selector_and_flag_and_tells_once() {
    let mut machine = Machine::ready(2);
    let port = machine.bind_ipi(1);
    machine.take();
    assert_eq!(machine.send(0, port), 0);
    assert_eq!(machine.take(), [upcall(1)]);
    assert!(machine.is_pending(port));
    assert_eq!(machine.bytes::<1>(SHARED_INFO + 64), [1]);
    assert_eq!(machine.u64(SHARED_INFO + 64 + 8), 1);
    assert!(machine.domain.is_upcall_pending(&machine.memory, 1));
    assert_eq!(machine.send(0, port), 0);
    assert_eq!(machine.take(), [], "pending already");
    machine.acknowledge(1);
    assert!(!machine.domain.is_upcall_pending(&machine.memory, 1));
    assert_eq!(machine.send(0, port), 0);
    assert_eq!(machine.take(), [upcall(1)]);
}

#[test]
fn without_a_vector_an_event_is_kept_and_nobody_is_notified() {
    let mut machine = Machine::new(1);
    machine.map_shared_info(SHARED_INFO);
    let port = machine.bind_ipi(0);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.take(), []);
    assert_eq!(machine.set_param(0, 2 << 56 | u64::from(VECTOR)), 0);
    assert_eq!(machine.take(), [upcall(0)], "as soon as it has one");
}

#[test]
fn a_masked_port_notifies_when_it_is_unmasked() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    machine.put(SHARED_INFO + 2560, &[0xff]);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.take(), []);
    machine.put_u32(ARG, &[port]);
    assert_eq!(op(&mut machine, 9), 0);
    assert_eq!(machine.take(), [upcall(0)]);
}

#[test]
fn a_port_can_be_moved_to_another_vcpu() {
    let mut machine = Machine::ready(2);
    machine.put_u32(ARG, &[0x7ff0 | 0x7ff0 << 16, 0]);
    assert_eq!(op(&mut machine, 6), 0, "alloc_unbound");
    let unbound = machine.u32(ARG + 4);
    machine.put_u32(ARG, &[0x7ff0, unbound, 0]);
    assert_eq!(op(&mut machine, 0), 0, "bind_interdomain");
    let local = machine.u32(ARG + 8);
    assert!(machine.is_pending(local), "it is left pending");
    machine.put_u32(ARG, &[unbound, 1]);
    assert_eq!(op(&mut machine, 8), 0, "bind_vcpu");
    machine.take();
    machine.send(0, local);
    assert_eq!(machine.take(), [upcall(1)]);
    machine.put_u32(ARG, &[unbound, 2]);
    assert_eq!(op(&mut machine, 8), -2);
}

#[test]
fn virqs_are_bound_as_4_17_has_it() {
    let mut machine = Machine::ready(2);
    assert_eq!(machine.bind_virq(0, 0), Ok(3));
    assert_eq!(machine.bind_virq(0, 1), Ok(4));
    assert_eq!(machine.bind_virq(0, 1), Err(-17));
    assert_eq!(machine.bind_virq(0, 2), Err(-2));
    assert_eq!(machine.bind_virq(24, 0), Err(-22));
    assert_eq!(machine.bind_virq(11, 1), Err(-22), "ARGO is global");
    assert_eq!(machine.bind_virq(11, 0), Ok(5));
    assert_eq!(machine.bind_virq(2, 0), Ok(6), "the console, in vain");
}

#[test]
fn close_frees_a_port_and_the_lowest_is_taken_next() {
    let mut machine = Machine::ready(1);
    let [first, second] = [machine.bind_ipi(0), machine.bind_ipi(0)];
    machine.put_u32(ARG, &[first]);
    assert_eq!(op(&mut machine, 3), 0);
    assert_eq!(op(&mut machine, 3), -22);
    assert_eq!(machine.bind_ipi(0), first);
    assert_eq!(status(&mut machine, second), 5);
    machine.put_u32(ARG, &[0]);
    assert_eq!(op(&mut machine, 3), -22, "port 0");
}

#[test]
fn ports_end_at_1023() {
    let mut machine = Machine::ready(1);
    for port in 3..=1023 {
        assert_eq!(machine.bind_ipi(0), port);
    }
    machine.put_u32(ARG, &[0, 0]);
    assert_eq!(op(&mut machine, 7), -28);
}

#[test]
fn pirqs_can_be_bound_and_never_come() {
    let mut machine = Machine::ready(1);
    for (pirq, want) in [(0, 0), (0, -17), (55, 0), (56, -22), (u32::MAX, -22)] {
        machine.put_u32(ARG, &[pirq, 0, 0]);
        assert_eq!(op(&mut machine, 2), want, "{pirq}");
    }
}

/// Turns FIFO events on: control blocks at 0x10_000, the array at 0x20_000.
fn fifo(machine: &mut Machine, vcpus: u32) {
    for vcpu in 0..vcpus {
        machine.put_u64(ARG, &[0x10 + u64::from(vcpu)]);
        machine.put_u32(ARG + 8, &[0, vcpu, 0, 0]);
        assert_eq!(op(machine, 11), 0);
        assert_eq!(machine.bytes::<1>(ARG + 16), [17], "link bits");
    }
    machine.put_u64(ARG, &[0x20]);
    assert_eq!(op(machine, 12), 0);
}

#[test]
fn fifo_events_tell_by_a_head_and_the_ready_word() {
    let mut machine = Machine::ready(2);
    fifo(&mut machine, 2);
    let port = machine.bind_ipi(1);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.take(), [upcall(1)]);
    let word = machine.u32(0x2_0000 + u64::from(port) * 4);
    assert_eq!(word, 0xa000_0000, "pending and linked");
    assert_eq!(machine.u32(0x1_1000), 1 << 7, "ready, priority 7");
    assert_eq!(machine.u32(0x1_1000 + 8 + 4 * 7), port, "the head");
}

#[test]
fn reset_closes_every_port_and_goes_back_to_two_levels() {
    let mut machine = Machine::ready(1);
    fifo(&mut machine, 1);
    machine.put_u32(ARG, &[0x7ff0]);
    assert_eq!(op(&mut machine, 10), 0);
    assert_eq!(status(&mut machine, 1), 0);
    machine.put_u32(ARG, &[0]);
    assert_eq!(op(&mut machine, 10), -1);
    machine.put_u32(ARG, &[77]);
    assert_eq!(op(&mut machine, 10), -3);
    let port = machine.bind_ipi(0);
    machine.send(0, port);
    assert!(machine.is_pending(port));
}

#[test]
fn set_priority_and_expand_array_need_fifo_events() {
    let mut machine = Machine::ready(1);
    machine.put_u32(ARG, &[1, 3]);
    assert_eq!(op(&mut machine, 13), -38);
    machine.put_u64(ARG, &[0x20]);
    assert_eq!(op(&mut machine, 12), -95);
    fifo(&mut machine, 1);
    machine.put_u32(ARG, &[1, 3]);
    assert_eq!(op(&mut machine, 13), 0);
    machine.put_u32(ARG, &[1, 16]);
    assert_eq!(op(&mut machine, 13), -22);
}

#[test]
fn an_unreadable_argument_is_efault_and_an_unknown_sub_op_enosys() {
    let mut machine = Machine::ready(1);
    for number in 0..=13 {
        let result = machine.call(0, EVENT_CHANNEL_OP, &[number, NOWHERE]);
        assert_eq!(result, -14, "sub-operation {number}");
    }
    assert_eq!(op(&mut machine, 14), -38);
    assert_eq!(op(&mut machine, 15), -38);
}

#[test]
fn shared_info_at_a_hole_and_moved_keeps_its_events() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    machine.send(0, port);
    for gpa in [0x2000_0000_u64, 0x4000] {
        machine.put_u64(ARG, &[SELF, 0, gpa >> 12]);
        assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), 0);
        let pending = machine.u64(gpa + 2048);
        assert_eq!(pending, 1 << port, "at {gpa:#x}");
    }
    let at_the_hole = machine.call(0, EVENT_CHANNEL_OP, &[4, 0x2000_0000]);
    assert_eq!(at_the_hole, -14, "a hole again");
}
