//! `vcpu_op`: vCPUs brought up and down.

use pvh_abi::sched::ShutdownReason;
use pvh_domain::{Effect, Sleep};
use pvh_vcpu::{Orders, State};

use super::machine::{ARG, Machine, NOWHERE, SCHED_OP, VCPU_OP};

fn vcpu_op(machine: &mut Machine, op: u64, vcpu: u64) -> i64 {
    machine.call(0, VCPU_OP, &[op, vcpu, 0])
}

/// `VCPUOP_initialise` with a context that passes.
fn initialise(machine: &mut Machine, vcpu: u64) -> i64 {
    machine.put_context(ARG, 0x1_2340);
    machine.call(0, VCPU_OP, &[0, vcpu, ARG])
}

#[test]
fn a_vcpu_is_initialised_and_then_up() {
    let mut machine = Machine::ready(2);
    machine.take();
    assert_eq!(vcpu_op(&mut machine, 3, 1), 0, "never initialised");
    assert_eq!(initialise(&mut machine, 1), 0);
    assert_eq!(vcpu_op(&mut machine, 3, 1), 0, "still down");
    assert_eq!(machine.take(), [Effect::Park(1)]);
    assert_eq!(machine.domain.orders(1), Orders::Park);
    assert_eq!(vcpu_op(&mut machine, 1, 1), 0);
    assert_eq!(machine.take(), [Effect::Start(1)]);
    assert_eq!(vcpu_op(&mut machine, 3, 1), 1);
    let Orders::Run(Some(state)) = machine.domain.orders(1) else {
        panic!("it has registers to start with");
    };
    assert_eq!((state.rip, state.cr0 & 1), (0x1_2340, 1));
    assert_eq!(machine.domain.orders(1), Orders::Run(None), "once");
}

#[test]
fn up_is_idempotent_and_needs_registers() {
    let mut machine = Machine::ready(2);
    assert_eq!(vcpu_op(&mut machine, 1, 1), -22);
    initialise(&mut machine, 1);
    assert_eq!(vcpu_op(&mut machine, 1, 1), 0);
    machine.take();
    assert_eq!(vcpu_op(&mut machine, 1, 1), 0);
    assert_eq!(vcpu_op(&mut machine, 1, 0), 0, "the first one too");
    assert_eq!(machine.take(), []);
}

#[test]
fn down_stops_a_vcpu_and_up_resumes_it() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    machine.domain.orders(1);
    assert_eq!(vcpu_op(&mut machine, 2, 1), 0);
    assert_eq!(machine.take(), [Effect::Stop(1), Effect::Park(1)]);
    assert_eq!(vcpu_op(&mut machine, 2, 1), 0, "idempotent");
    assert_eq!(machine.take(), [Effect::Park(1)]);
    assert_eq!(initialise(&mut machine, 1), -17, "it has registers");
    assert_eq!(vcpu_op(&mut machine, 1, 1), 0);
    assert_eq!(machine.take(), [Effect::Resume(1)]);
    assert_eq!(machine.domain.orders(1), Orders::Run(None));
}

#[test]
fn the_last_vcpu_that_goes_down_powers_the_domain_off() {
    let mut machine = Machine::ready(2);
    machine.take();
    assert_eq!(vcpu_op(&mut machine, 2, 0), 0);
    let off = Effect::Shutdown(ShutdownReason::POWEROFF);
    assert_eq!(machine.take(), [off]);
    assert_eq!(machine.domain.orders(0), Orders::End);
    assert_eq!(machine.domain.orders(1), Orders::End);
}

#[test]
fn a_vcpu_may_put_itself_down_while_another_is_up() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    assert_eq!(machine.call(1, VCPU_OP, &[2, 1, 0]), 0);
    assert_eq!(machine.take(), [Effect::Stop(1)]);
    assert_eq!(machine.domain.lifecycle(1), Some(State::Down));
}

#[test]
fn a_vcpu_that_does_not_exist_is_enoent_whatever_is_asked() {
    let mut machine = Machine::ready(2);
    for op in (0..16).chain([99]) {
        assert_eq!(vcpu_op(&mut machine, op, 2), -2, "{op}");
        assert_eq!(vcpu_op(&mut machine, op, 0xffff_ffff), -2, "{op}");
    }
    for op in [14, 15, 99] {
        assert_eq!(vcpu_op(&mut machine, op, 0), -38, "{op}");
    }
}

#[test]
fn initialise_errors_are_in_xens_order() {
    let mut machine = Machine::ready(2);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 1, NOWHERE]), -14);
    assert_eq!(initialise(&mut machine, 0), -17, "the first one");
    machine.put_context(ARG, 0);
    machine.put_u32(ARG + 4, &[1]);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 1, ARG]), -22, "pad");
    machine.put_context(ARG, 0);
    machine.put_u32(ARG, &[2]);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 1, ARG]), -22, "mode");
    assert_eq!(initialise(&mut machine, 1), 0);
    machine.put_u32(ARG, &[2]);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 1, ARG]), -17, "before that");
}

#[test]
fn an_nmi_is_sent_and_wakes() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    machine.call(1, SCHED_OP, &[1, 0]);
    machine.take();
    assert_eq!(vcpu_op(&mut machine, 11, 1), 0);
    assert_eq!(machine.take(), [Effect::Nmi(1), Effect::Wake(1)]);
    assert_eq!(machine.call(0, VCPU_OP, &[11, 1, ARG]), -22);
    assert_eq!(machine.take(), []);
}

#[test]
fn physical_ids_are_refused() {
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, VCPU_OP, &[12, 0, ARG]), -22);
}

#[test]
fn a_vcpu_that_goes_down_in_its_sleep_sleeps_on_when_it_is_up_again() {
    let mut machine = Machine::ready(2);
    let port = machine.bind_ipi(1);
    machine.start(1);
    assert_eq!(machine.call(1, SCHED_OP, &[1, 0]), 0);
    assert_eq!(machine.sleep, Some(Sleep::Block));
    vcpu_op(&mut machine, 2, 1);
    vcpu_op(&mut machine, 1, 1);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.take().last(), Some(&Effect::Wake(1)));
}
