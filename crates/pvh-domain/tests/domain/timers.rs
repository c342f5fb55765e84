//! Timers and deadlines.

use pvh_domain::{Effect, Sleep};

use super::machine::{
    ARG, Machine, NOWHERE, SCHED_OP, SET_TIMER_OP, START_NS, VCPU_OP, VECTOR, at,
};

const MS: u64 = 1_000_000;

/// A domain whose vCPU 0 has VIRQ_TIMER on the answered port.
fn with_timer() -> (Machine, u32) {
    let mut machine = Machine::ready(2);
    let port = machine.bind_virq(0, 0).unwrap();
    machine.take();
    (machine, port)
}

/// `VCPUOP_set_singleshot_timer`.
fn singleshot(machine: &mut Machine, vcpu: u64, at_ns: u64, flags: u32) -> i64 {
    machine.put_u64(ARG, &[at_ns]);
    machine.put_u32(ARG + 8, &[flags, 0]);
    machine.call(0, VCPU_OP, &[8, vcpu, ARG])
}

/// `VCPUOP_set_periodic_timer`.
fn periodic(machine: &mut Machine, vcpu: u64, period_ns: u64) -> i64 {
    machine.put_u64(ARG, &[period_ns]);
    machine.call(0, VCPU_OP, &[6, vcpu, ARG])
}

fn upcall(vcpu: u32) -> Effect {
    let vector = VECTOR;
    Effect::GlobalVector { vcpu, vector }
}

#[test]
fn a_one_shot_timer_raises_virq_timer_once_at_its_time() {
    let (mut machine, port) = with_timer();
    assert_eq!(singleshot(&mut machine, 0, START_NS + MS, 0), 0);
    assert_eq!(machine.deadline_ns(), Some(START_NS + MS));
    machine.tick_at(START_NS + MS - 1);
    assert!(!machine.is_pending(port));
    machine.tick_at(START_NS + MS);
    assert!(machine.is_pending(port));
    assert_eq!(machine.take(), [upcall(0)]);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_one_shot_timer_in_the_past_fires_at_once_and_answers_0_whatever_its_flag() {
    for (at_ns, flags) in [(START_NS, 0), (1, 0), (1, 1), (0, 0), (u64::MAX, 0)] {
        let (mut machine, port) = with_timer();
        assert_eq!(singleshot(&mut machine, 0, at_ns, flags), 0);
        assert!(machine.is_pending(port), "{at_ns:#x}");
        assert_eq!(machine.deadline_ns(), None);
    }
}

#[test]
fn a_one_shot_timer_is_the_callers_own() {
    let (mut machine, _) = with_timer();
    assert_eq!(singleshot(&mut machine, 1, START_NS + MS, 0), -22);
    assert_eq!(machine.call(0, VCPU_OP, &[9, 1, 0]), -22);
    assert_eq!(machine.call(0, VCPU_OP, &[8, 0, NOWHERE]), -14);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn stopping_a_one_shot_timer_answers_0_whether_or_not_it_runs() {
    let (mut machine, _) = with_timer();
    assert_eq!(machine.call(0, VCPU_OP, &[9, 0, 0]), 0);
    assert_eq!(singleshot(&mut machine, 0, START_NS + MS, 0), 0);
    assert_eq!(machine.call(0, VCPU_OP, &[9, 0, 0]), 0);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn set_timer_op_is_the_same_timer() {
    let (mut machine, port) = with_timer();
    assert_eq!(singleshot(&mut machine, 0, START_NS + 9 * MS, 0), 0);
    assert_eq!(machine.call(0, SET_TIMER_OP, &[START_NS + MS]), 0);
    assert_eq!(machine.deadline_ns(), Some(START_NS + MS));
    assert_eq!(machine.call(0, SET_TIMER_OP, &[0]), 0, "stopped");
    assert!(!machine.is_pending(port), "and not fired");
    assert_eq!(machine.deadline_ns(), None);
    assert_eq!(machine.call(0, SET_TIMER_OP, &[START_NS - 1]), 0);
    assert!(
        machine.is_pending(port),
        "a time that is past fires at once"
    );
}

#[test]
fn set_timer_op_takes_a_time_that_is_negative_or_far_for_100_ms() {
    // A guest without shared info, so that the far deadline is the next one.
    let mut machine = Machine::new(1);
    let far = START_NS + (1 << 50);
    for at_ns in [far, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX] {
        assert_eq!(machine.call(0, SET_TIMER_OP, &[at_ns]), 0);
        let instead = Some(START_NS + 100 * MS);
        assert_eq!(machine.deadline_ns(), instead, "{at_ns:#x}");
    }
    assert_eq!(machine.call(0, SET_TIMER_OP, &[far - 1]), 0);
    assert_eq!(machine.deadline_ns(), Some(far - 1));
}

#[test]
fn a_32_bit_caller_says_the_time_in_two_registers() {
    let (mut machine, _) = with_timer();
    machine.is_64_bit = false;
    let at_ns = START_NS + MS;
    let (low, high) = (at_ns & 0xffff_ffff, at_ns >> 32);
    assert_eq!(machine.call(0, SET_TIMER_OP, &[low, high]), 0);
    assert_eq!(machine.deadline_ns(), Some(at_ns));
}

#[test]
fn a_periodic_timer_fires_at_once_and_then_every_period() {
    let (mut machine, port) = with_timer();
    assert_eq!(periodic(&mut machine, 0, MS), 0);
    assert!(machine.is_pending(port), "it has never fired before");
    assert_eq!(machine.deadline_ns(), Some(START_NS + MS));
    machine.acknowledge(0);
    machine.tick_at(START_NS + MS - 1);
    assert!(!machine.is_pending(port));
    machine.tick_at(START_NS + 5 * MS);
    assert!(machine.is_pending(port), "late, and once for all five");
    assert_eq!(machine.deadline_ns(), Some(START_NS + 6 * MS));
    assert_eq!(machine.call(0, VCPU_OP, &[7, 0, 0]), 0);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_periodic_timer_may_be_any_vcpus_and_has_a_period_of_1_ms_or_more() {
    let (mut machine, _) = with_timer();
    for period_ns in [0, 1, MS - 1, 1 << 62, u64::MAX] {
        let refused = periodic(&mut machine, 0, period_ns);
        assert_eq!(refused, -22, "{period_ns:#x}");
    }
    assert_eq!(periodic(&mut machine, 1, MS), 0);
    assert_eq!(machine.call(0, VCPU_OP, &[6, 0, NOWHERE]), -14);
    assert_eq!(machine.call(0, VCPU_OP, &[7, 1, 0]), 0);
    assert_eq!(machine.call(0, VCPU_OP, &[7, 2, 0]), -2);
}

#[test]
fn a_periodic_timer_stands_still_while_its_vcpu_sleeps() {
    let (mut machine, port) = with_timer();
    assert_eq!(periodic(&mut machine, 0, MS), 0);
    machine.acknowledge(0);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    assert_eq!(machine.sleep, Some(Sleep::Block));
    assert_eq!(machine.deadline_ns(), None);
    machine.tick_at(START_NS + 7 * MS);
    assert!(!machine.is_pending(port));
    machine.enter(0);
    assert!(machine.is_pending(port), "due since long");
    assert_eq!(machine.deadline_ns(), Some(START_NS + 8 * MS));
}

#[test]
fn a_one_shot_timer_wakes_its_vcpu() {
    let (mut machine, _) = with_timer();
    assert_eq!(singleshot(&mut machine, 0, START_NS + MS, 0), 0);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    machine.take();
    machine.tick_at(START_NS + MS);
    assert_eq!(machine.take(), [upcall(0), Effect::Wake(0)]);
}

#[test]
fn a_tick_that_wakes_a_vcpu_fires_its_periodic_timer_too() {
    let (mut machine, _) = with_timer();
    assert_eq!(periodic(&mut machine, 0, MS), 0);
    assert_eq!(singleshot(&mut machine, 0, START_NS + 5 * MS, 0), 0);
    machine.acknowledge(0);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    machine.tick_at(START_NS + 5 * MS);
    assert_eq!(machine.deadline_ns(), Some(START_NS + 6 * MS));
}

#[test]
fn a_timer_without_its_virq_fires_into_nothing() {
    let mut machine = Machine::ready(1);
    assert_eq!(singleshot(&mut machine, 0, START_NS + MS, 0), 0);
    machine.take();
    machine.tick_at(START_NS + MS);
    assert_eq!(machine.take(), []);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn the_earliest_deadline_of_all_vcpus_is_the_next() {
    let (mut machine, _) = with_timer();
    machine.start(1);
    machine.put_u64(ARG, &[START_NS + 3 * MS, 0]);
    assert_eq!(machine.call(1, VCPU_OP, &[8, 1, ARG]), 0);
    assert_eq!(machine.call(0, SET_TIMER_OP, &[START_NS + 4 * MS]), 0);
    assert_eq!(machine.deadline_ns(), Some(START_NS + 3 * MS));
    machine.tick_at(START_NS + 3 * MS);
    assert_eq!(machine.deadline_ns(), Some(START_NS + 4 * MS));
}

#[test]
fn a_call_at_a_later_time_uses_that_time() {
    let (mut machine, port) = with_timer();
    machine.now = at(START_NS + 2 * MS);
    assert_eq!(singleshot(&mut machine, 0, START_NS + MS, 0), 0);
    assert!(machine.is_pending(port));
}
