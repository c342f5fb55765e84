//! The time of all vCPUs gets a new stamp every second.

use super::machine::{ARG, Machine, SCHED_OP, SHARED_INFO, START_NS, VCPU_OP, at};

const SECOND_NS: u64 = 1_000_000_000;
/// Where vCPU 0's `vcpu_time_info` lies, in shared info.
const FIRST: u64 = SHARED_INFO + 32;
/// Where vCPU 1's `vcpu_info` is registered.
const INFO: u64 = 0x6040;
/// Where vCPU 0's time area is.
const AREA: u64 = 0x7000;

/// The version, the TSC, and the system time.
fn stamp(machine: &Machine, at: u64) -> (u32, u64, u64) {
    (machine.u32(at), machine.u64(at + 8), machine.u64(at + 16))
}

#[test]
fn after_a_second_every_vcpu_has_a_stamp_of_the_tick() {
    let mut machine = Machine::ready(3);
    machine.put_u64(ARG, &[INFO >> 12]);
    machine.put_u32(ARG + 8, &[0x40, 0]);
    assert_eq!(machine.call(0, VCPU_OP, &[10, 1, ARG]), 0);
    machine.put_u64(ARG, &[AREA]);
    assert_eq!(machine.call(0, VCPU_OP, &[13, 0, ARG]), 0);
    machine.take();
    let places = [FIRST, INFO + 32, SHARED_INFO + 128 + 32, AREA];
    let before = places.map(|place| stamp(&machine, place));
    assert!(
        before
            .iter()
            .all(|&(_, tsc, ns)| (tsc, ns) == (0, START_NS))
    );
    assert_eq!(
        machine.domain.next_deadline_ns(),
        Some(START_NS + SECOND_NS)
    );

    machine.tick_at(START_NS + SECOND_NS - 1);
    assert_eq!(places.map(|place| stamp(&machine, place)), before);

    machine.tick_at(START_NS + SECOND_NS);
    for (place, (version, ..)) in places.into_iter().zip(before) {
        // A TSC of 1 GHz, which began with the domain.
        let want = (version + 2, 1_000_000_000, START_NS + 1_000_000_000);
        assert_eq!(stamp(&machine, place), want, "{place:#x}");
    }
    assert_eq!(machine.take(), [], "no vCPU is told");
    let next_ns = machine.domain.next_deadline_ns();
    assert_eq!(next_ns, Some(START_NS + 2 * SECOND_NS));
}

#[test]
fn a_vcpu_that_starts_or_registers_gets_the_last_stamp() {
    let mut machine = Machine::ready(2);
    machine.tick_at(START_NS + SECOND_NS);
    machine.now = at(START_NS + SECOND_NS + 77);
    machine.start(1);
    machine.put_u64(ARG, &[AREA]);
    assert_eq!(machine.call(0, VCPU_OP, &[13, 0, ARG]), 0);
    for place in [FIRST, SHARED_INFO + 64 + 32, AREA] {
        let (_, tsc, ns) = stamp(&machine, place);
        assert_eq!((tsc, ns), (SECOND_NS, START_NS + SECOND_NS), "{place:#x}");
    }
}

#[test]
fn a_late_tick_writes_once_and_the_next_is_a_second_later() {
    let mut machine = Machine::ready(1);
    let (version, ..) = stamp(&machine, FIRST);
    machine.tick_at(START_NS + 7_300_000_000);
    let want = (version + 2, 7_300_000_000, START_NS + 7_300_000_000);
    assert_eq!(stamp(&machine, FIRST), want);
    let next_ns = machine.domain.next_deadline_ns();
    assert_eq!(next_ns, Some(START_NS + 8_300_000_000));
}

#[test]
fn a_guest_that_sleeps_costs_one_tick_a_second() {
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    for second in 1..=5 {
        let due_ns = machine.domain.next_deadline_ns();
        assert_eq!(due_ns, Some(START_NS + second * SECOND_NS));
        machine.tick_at(START_NS + second * SECOND_NS);
        assert_eq!(stamp(&machine, FIRST).1, second * SECOND_NS);
    }
    assert!(machine.take().is_empty());
}

#[test]
fn without_a_page_to_read_it_from_no_time_is_due_and_with_one_it_is_at_once() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.domain.next_deadline_ns(), None);
    machine.tick_at(START_NS + 9 * SECOND_NS);
    machine.map_shared_info(SHARED_INFO);
    assert_eq!(stamp(&machine, FIRST).1, 0, "the first stamp");
    let due_ns = machine.domain.next_deadline_ns();
    assert_eq!(due_ns, Some(START_NS + SECOND_NS), "past");
    machine.tick_at(START_NS + 9 * SECOND_NS);
    assert_eq!(stamp(&machine, FIRST).1, 9 * SECOND_NS);
}

#[test]
fn a_registered_vcpu_info_alone_is_refreshed() {
    let mut machine = Machine::new(1);
    machine.put_u64(ARG, &[INFO >> 12]);
    machine.put_u32(ARG + 8, &[0x40, 0]);
    assert_eq!(machine.call(0, VCPU_OP, &[10, 0, ARG]), 0);
    machine.tick_at(START_NS + SECOND_NS);
    assert_eq!(stamp(&machine, INFO + 32).1, SECOND_NS);
}

#[test]
fn a_domain_that_is_over_has_no_time_to_write() {
    let mut machine = Machine::ready(1);
    machine.put_u32(ARG, &[0]);
    machine.call(0, SCHED_OP, &[2, ARG]);
    assert_eq!(machine.domain.next_deadline_ns(), None);
    let before = stamp(&machine, FIRST);
    machine.tick_at(START_NS + SECOND_NS);
    assert_eq!(stamp(&machine, FIRST), before);
}
