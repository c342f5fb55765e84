//! `sched_op`, and lists of calls.

use pvh_abi::sched::ShutdownReason;
use pvh_domain::{Effect, Sleep};

use super::machine::{
    ARG, EVENT_CHANNEL_OP, MULTICALL, Machine, NOWHERE, SCHED_OP, SHARED_INFO, START_NS, VECTOR, at,
};

/// `SCHEDOP_poll` of vCPU 0.
fn poll(machine: &mut Machine, ports: &[u32], timeout_ns: u64) -> i64 {
    let count = u64::try_from(ports.len()).unwrap();
    machine.put_u64(ARG, &[ARG + 0x100, count, timeout_ns]);
    machine.put_u32(ARG + 0x100, ports);
    machine.call(0, SCHED_OP, &[3, ARG])
}

#[test]
fn yield_does_nothing_and_answers_0() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(machine.call(0, SCHED_OP, &[0, 0]), 0);
    assert_eq!((machine.sleep, machine.take()), (None, vec![]));
}

#[test]
fn block_clears_the_upcall_mask_and_sleeps_until_an_upcall() {
    let mut machine = Machine::ready(2);
    let port = machine.bind_ipi(0);
    machine.put(SHARED_INFO + 1, &[0xff]);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    assert_eq!(machine.sleep, Some(Sleep::Block));
    assert_eq!(machine.bytes::<2>(SHARED_INFO), [0, 0]);
    machine.take();
    assert_eq!(machine.send(1, port), 0);
    let upcall = Effect::GlobalVector {
        vcpu: 0,
        vector: VECTOR,
    };
    assert_eq!(machine.take(), [upcall, Effect::Wake(0)]);
}

#[test]
fn block_does_not_sleep_when_an_upcall_would_come_at_once() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    assert_eq!(machine.send(0, port), 0);
    machine.takes_interrupts = true;
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    assert_eq!(machine.sleep, None);
    machine.takes_interrupts = false;
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    let asleep = Some(Sleep::Block);
    assert_eq!(machine.sleep, asleep, "Xen looks at RFLAGS.IF too");
}

#[test]
fn a_vcpu_that_went_on_by_itself_is_not_woken() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    machine.enter(0);
    machine.take();
    assert_eq!(machine.send(0, port), 0);
    assert!(!machine.take().contains(&Effect::Wake(0)));
}

#[test]
fn poll_for_a_pending_port_does_not_sleep_masked_or_not() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    machine.put(SHARED_INFO + 2560, &[0xff]);
    assert_eq!(machine.send(0, port), 0);
    assert_eq!(poll(&mut machine, &[port], 0), 0);
    assert_eq!(machine.sleep, None);
}

#[test]
fn poll_sleeps_until_its_port_is_pending() {
    let mut machine = Machine::ready(2);
    let (port, other) = (machine.bind_ipi(0), machine.bind_ipi(1));
    machine.put(SHARED_INFO + 2560, &[0xff]);
    assert_eq!(poll(&mut machine, &[port], 0), 0);
    assert_eq!(machine.sleep, Some(Sleep::Poll));
    assert_eq!(machine.deadline_ns(), None, "no timeout");
    machine.take();
    machine.send(1, other);
    assert_eq!(machine.take(), [], "not the one it polls for, and masked");
    machine.send(1, port);
    assert_eq!(machine.take(), [Effect::Wake(0)]);
    machine.send(1, port);
    assert_eq!(machine.take(), [], "once");
}

#[test]
fn poll_of_no_port_or_several_wakes_at_any_of_them() {
    for ports in [&[][..], &[1, 2]] {
        let mut machine = Machine::ready(2);
        let port = machine.bind_ipi(1);
        assert_eq!(poll(&mut machine, ports, 0), 0);
        assert_eq!(machine.sleep, Some(Sleep::Poll));
        machine.take();
        machine.send(1, port);
        assert!(machine.take().contains(&Effect::Wake(0)), "{ports:?}");
    }
}

#[test]
fn poll_ends_at_its_timeout() {
    let mut machine = Machine::ready(1);
    let until_ns = START_NS + 700;
    assert_eq!(poll(&mut machine, &[1], until_ns), 0);
    assert_eq!(machine.sleep, Some(Sleep::Poll));
    assert_eq!(machine.deadline_ns(), Some(until_ns));
    machine.take();
    machine.tick_at(until_ns - 1);
    assert_eq!(machine.take(), []);
    machine.tick_at(until_ns);
    assert_eq!(machine.take(), [Effect::Wake(0)]);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn poll_with_a_timeout_that_is_past_does_not_sleep() {
    let mut machine = Machine::ready(1);
    for timeout_ns in [1, START_NS, 1 << 63, u64::MAX] {
        assert_eq!(poll(&mut machine, &[1], timeout_ns), 0);
        assert_eq!(machine.sleep, None, "{timeout_ns:#x}");
    }
    assert_eq!(poll(&mut machine, &[1], START_NS + 1), 0);
    assert_eq!(machine.sleep, Some(Sleep::Poll));
}

#[test]
fn the_timeout_of_a_poll_that_is_over_is_forgotten() {
    let mut machine = Machine::ready(1);
    assert_eq!(poll(&mut machine, &[1], START_NS + 700), 0);
    machine.enter(0);
    assert_eq!(machine.deadline_ns(), None);
    machine.take();
    machine.tick_at(START_NS + 700);
    assert_eq!(machine.take(), []);
}

#[test]
fn an_upcall_ends_a_poll_for_another_port() {
    let mut machine = Machine::ready(2);
    let (port, other) = (machine.bind_ipi(0), machine.bind_ipi(0));
    assert_eq!(poll(&mut machine, &[port], START_NS + 700), 0);
    machine.take();
    machine.send(1, other);
    assert!(machine.take().contains(&Effect::Wake(0)));
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn poll_does_not_sleep_when_an_upcall_would_come_at_once() {
    let mut machine = Machine::ready(1);
    let (port, other) = (machine.bind_ipi(0), machine.bind_ipi(0));
    machine.send(0, other);
    assert_eq!(poll(&mut machine, &[port], 0), 0);
    assert_eq!(machine.sleep, Some(Sleep::Poll), "interrupts are off");
    machine.takes_interrupts = true;
    assert_eq!(poll(&mut machine, &[0xffff], 0), 0, "before ports are read");
    assert_eq!(machine.sleep, None);
}

#[test]
fn poll_errors_are_in_xens_order() {
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, SCHED_OP, &[3, NOWHERE]), -14);
    machine.put_u64(ARG, &[NOWHERE, 129, 0]);
    assert_eq!(machine.call(0, SCHED_OP, &[3, ARG]), -22, "too many ports");
    machine.put_u64(ARG, &[NOWHERE, 128, 0]);
    assert_eq!(machine.call(0, SCHED_OP, &[3, ARG]), -14);
    assert_eq!(
        poll(&mut machine, &[64], 0),
        -22,
        "a port that is not valid"
    );
    assert_eq!(machine.sleep, None);
}

#[test]
fn a_32_bit_poll_has_16_bytes() {
    let mut machine = Machine::ready(1);
    machine.is_64_bit = false;
    machine.put_u32(ARG, &[u32::try_from(ARG).unwrap() + 64, 1]);
    machine.put_u64(ARG + 8, &[START_NS + 9]);
    machine.put_u32(ARG + 64, &[1]);
    assert_eq!(machine.call(0, SCHED_OP, &[3, ARG]), 0);
    assert_eq!(machine.deadline_ns(), Some(START_NS + 9));
}

#[test]
fn every_shutdown_reason_is_reported_and_the_first_one_stays() {
    for reason in [0, 1, 2, 3, 4, 6, 0xff] {
        let mut machine = Machine::ready(1);
        machine.take();
        machine.put_u32(ARG, &[u32::from(reason) | 0xabcd_ef00]);
        assert_eq!(machine.call(0, SCHED_OP, &[2, ARG]), 0);
        let over = Effect::Shutdown(ShutdownReason(reason));
        assert_eq!(machine.take(), [over], "the low 8 bits");
        assert!(machine.domain.is_over());
        machine.put_u32(ARG, &[3]);
        assert_eq!(machine.call(0, SCHED_OP, &[2, ARG]), 0);
        assert_eq!(machine.take(), [], "only once");
    }
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, SCHED_OP, &[2, NOWHERE]), -14);
    assert!(!machine.domain.is_over());
}

#[test]
fn shutdown_code_notes_the_reason_of_the_shutdown_that_follows() {
    let mut machine = Machine::ready(1);
    machine.take();
    for reason in [3, 1] {
        machine.put_u32(ARG, &[reason]);
        assert_eq!(machine.call(0, SCHED_OP, &[5, ARG]), 0);
        assert_eq!(machine.take(), []);
    }
    machine.put_u32(ARG, &[0]);
    machine.call(0, SCHED_OP, &[2, ARG]);
    assert_eq!(machine.take(), [Effect::Shutdown(ShutdownReason::CRASH)]);
    assert_eq!(machine.call(0, SCHED_OP, &[5, NOWHERE]), -14);
}

#[test]
fn other_domains_cannot_be_stopped_nor_the_own_one_by_its_id() {
    let mut machine = Machine::ready(1);
    for (domid, want) in [(0_u32, -1), (5, -1), (6, -3), (0x7ff0, -3)] {
        machine.put_u32(ARG, &[domid, 0]);
        assert_eq!(machine.call(0, SCHED_OP, &[4, ARG]), want, "{domid}");
    }
    assert_eq!(machine.call(0, SCHED_OP, &[4, NOWHERE]), -14);
    assert!(!machine.domain.is_over());
}

/// `SCHEDOP_watchdog`.
fn watchdog(machine: &mut Machine, id: u32, timeout_s: u32) -> i64 {
    machine.put_u32(ARG, &[id, timeout_s]);
    machine.call(0, SCHED_OP, &[6, ARG])
}

#[test]
fn there_are_two_watchdogs_and_their_ids_are_1_and_2() {
    // A guest without shared info, so that the watchdogs' deadlines are the next ones.
    let mut machine = Machine::new(1);
    assert_eq!(watchdog(&mut machine, 1, 9), -22, "not in use");
    assert_eq!(watchdog(&mut machine, 0, 30), 1);
    assert_eq!(watchdog(&mut machine, 0, 20), 2);
    assert_eq!(watchdog(&mut machine, 0, 10), 0xffff_ffe4, "as 4.17 has it");
    machine.is_64_bit = false;
    assert_eq!(watchdog(&mut machine, 0, 10), -28);
    machine.is_64_bit = true;
    assert_eq!(watchdog(&mut machine, 3, 10), -22);
    let due_ns = Some(START_NS + 20_000_000_000);
    assert_eq!(machine.deadline_ns(), due_ns);
    assert_eq!(watchdog(&mut machine, 2, 0), 0, "given up");
    let due_ns = Some(START_NS + 30_000_000_000);
    assert_eq!(machine.deadline_ns(), due_ns);
    assert_eq!(watchdog(&mut machine, 2, 5), -22);
    assert_eq!(watchdog(&mut machine, 0, 5), 2, "free again");
    assert_eq!(machine.call(0, SCHED_OP, &[6, NOWHERE]), -14);
}

#[test]
fn a_watchdog_that_is_not_poked_ends_the_domain_with_reason_4() {
    let mut machine = Machine::ready(1);
    assert_eq!(watchdog(&mut machine, 0, 2), 1);
    machine.now = at(START_NS + 1_999_999_999);
    assert_eq!(watchdog(&mut machine, 1, 2), 0, "poked");
    machine.take();
    machine.tick_at(START_NS + 2_000_000_000);
    assert_eq!(machine.take(), []);
    machine.tick_at(START_NS + 3_999_999_999);
    assert_eq!(machine.take(), [Effect::Shutdown(ShutdownReason(4))]);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_new_watchdog_without_time_is_due_at_once() {
    let mut machine = Machine::ready(1);
    assert_eq!(watchdog(&mut machine, 0, 0), 1);
    machine.take();
    machine.tick_at(START_NS);
    assert_eq!(machine.take(), [Effect::Shutdown(ShutdownReason::WATCHDOG)]);
}

#[test]
fn pinning_is_eperm_and_an_unknown_sub_op_enosys() {
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, SCHED_OP, &[7, NOWHERE]), -1);
    assert_eq!(machine.call(0, SCHED_OP, &[8, ARG]), -38);
}

#[test]
fn a_block_in_a_multicall_sleeps_when_the_list_is_done() {
    let mut machine = Machine::ready(1);
    machine.put(ARG, &[0; 64 * 40]);
    machine.put_u64(ARG, &[29, 0, 1]);
    for entry in 1..40_u64 {
        machine.put_u64(ARG + 64 * entry, &[29, 0x55, 0]);
    }
    assert_eq!(machine.call(0, MULTICALL, &[ARG, 40]), 0);
    assert_eq!(machine.sleep, Some(Sleep::Block), "after all 40 entries");
    assert_eq!(machine.u64(ARG + 64 * 39 + 8), 0);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[99, ARG]), -38);
    assert_eq!(machine.sleep, None, "awake, for it makes calls");
}
