//! Calls that depend on what other vCPUs do, which the embedder observes first.

use pvh_domain::{Effect, Observe};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_vcpu::State;

use super::machine::{ARG, EVENT_CHANNEL_OP, MULTICALL, Machine, VCPU_OP};

const LIST: u64 = ARG + 0x100;

/// INITIALISE of vCPU 1, in a 64-bit vCPU.
fn call(op: u64, vcpu: u64) -> Call {
    Call::new(Width::Native, VCPU_OP, [op, vcpu, ARG, 0, 0])
}

/// Three vCPUs, and a context for any of them.
fn machine() -> Machine {
    let mut machine = Machine::ready(3);
    machine.put_context(ARG, 0x1_2340);
    machine.take();
    machine
}

/// Hands a call in that has to wait; returns whom it waits for.
fn waits(machine: &mut Machine, vcpu: u32, call: Call) -> Observe {
    let answer = machine.step(vcpu, call);
    assert_eq!(
        answer.outcome,
        Outcome::Again(call),
        "nothing of it is done"
    );
    assert_eq!(answer.sleep, None);
    answer.observe.unwrap()
}

/// Hands a call in that is served at once.
fn served(machine: &mut Machine, vcpu: u32, call: Call) -> i64 {
    let answer = machine.step(vcpu, call);
    assert_eq!(answer.observe, None);
    match answer.outcome {
        Outcome::Return(result) => result,
        Outcome::Again(rest) => panic!("{rest:?} is left"),
    }
}

#[test]
fn a_call_about_another_vcpu_waits_once_for_that_vcpu() {
    let mut machine = machine();
    for (op, result) in [(3, 0), (0, 0), (1, 0), (3, 1)] {
        assert_eq!(
            waits(&mut machine, 0, call(op, 1)),
            Observe::Vcpu(1),
            "{op}"
        );
        assert_eq!(served(&mut machine, 0, call(op, 1)), result, "{op}");
    }
}

#[test]
fn down_waits_for_all_others_and_not_where_there_is_none() {
    let mut machine = machine();
    for vcpu in [0, 2] {
        assert_eq!(waits(&mut machine, 0, call(2, vcpu)), Observe::Others);
        assert_eq!(served(&mut machine, 0, call(2, vcpu)), 0);
    }
    let mut alone = Machine::ready(1);
    assert_eq!(served(&mut alone, 0, call(2, 0)), 0);
}

#[test]
fn a_call_about_the_caller_or_about_no_vcpu_waits_for_nobody() {
    let mut machine = machine();
    assert_eq!(served(&mut machine, 0, call(0, 0)), -17);
    assert_eq!(served(&mut machine, 0, call(1, 0)), 0);
    assert_eq!(served(&mut machine, 0, call(3, 0)), 1);
    for op in 0..4 {
        assert_eq!(served(&mut machine, 0, call(op, 3)), -2, "{op}");
    }
    assert_eq!(
        served(&mut machine, 0, call(7, 1)),
        0,
        "stop_periodic_timer"
    );
}

#[test]
fn the_call_sees_what_was_reported_meanwhile() {
    let mut machine = machine();
    waits(&mut machine, 0, call(3, 1));
    let now = machine.now;
    machine.domain.found_running(&machine.memory, 1, now);
    assert_eq!(served(&mut machine, 0, call(3, 1)), 1, "it was started");
    waits(&mut machine, 0, call(1, 1));
    machine
        .domain
        .init(&machine.memory, 1, now, &mut machine.effects);
    assert_eq!(served(&mut machine, 0, call(1, 1)), -22, "it was reset");
    waits(&mut machine, 0, call(2, 0));
    machine.domain.found_running(&machine.memory, 2, now);
    machine.take();
    assert_eq!(served(&mut machine, 0, call(2, 0)), 0);
    assert_eq!(machine.take(), [Effect::Stop(0)], "vCPU 2 is up");
}

#[test]
fn a_vcpu_with_registers_that_is_found_running_has_been_reset_before() {
    let mut machine = machine();
    machine.call(0, VCPU_OP, &[0, 1, ARG]);
    assert_eq!(machine.domain.lifecycle(1), Some(State::Down));
    let now = machine.now;
    machine.domain.found_running(&machine.memory, 1, now);
    assert_eq!(machine.domain.lifecycle(1), Some(State::Up));
}

#[test]
fn an_observation_serves_one_call_only() {
    let mut machine = machine();
    waits(&mut machine, 0, call(3, 1));
    assert_eq!(served(&mut machine, 0, call(3, 1)), 0);
    waits(&mut machine, 0, call(3, 1));
    // Its vCPU is reset: the call is never finished, and another one has to wait.
    let now = machine.now;
    waits(&mut machine, 1, call(3, 0));
    machine
        .domain
        .init(&machine.memory, 1, now, &mut machine.effects);
    waits(&mut machine, 1, call(3, 0));
}

fn put_list(machine: &Machine, entries: &[[u64; 3]]) {
    for (at, [number, op, vcpu]) in (LIST..).step_by(64).zip(entries) {
        machine.put_u64(at, &[*number, 99, *op, *vcpu, ARG, 0, 0, 0]);
    }
}

fn list(count: u64) -> Call {
    Call::new(Width::Native, MULTICALL, [LIST, count, 0, 0, 0])
}

/// Hands a list in to its end; returns whom its entries waited for.
fn observed(machine: &mut Machine, mut call: Call) -> Vec<Observe> {
    let mut observed = Vec::new();
    for _ in 0..100 {
        let answer = machine.step(0, call);
        observed.extend(answer.observe);
        match answer.outcome {
            Outcome::Again(rest) => call = rest,
            Outcome::Return(result) => {
                assert_eq!(result, 0);
                return observed;
            }
        }
    }
    panic!("the list does not end");
}

#[test]
fn each_entry_of_a_list_waits_once_and_stays_as_it_is() {
    let mut machine = machine();
    let entries = [
        [VCPU_OP, 0, 1],
        [17, 0, 0],
        [VCPU_OP, 1, 1],
        [VCPU_OP, 3, 0],
        [VCPU_OP, 2, 2],
    ];
    put_list(&machine, &entries);
    let one = Observe::Vcpu(1);
    assert_eq!(observed(&mut machine, list(5)), [one, one, Observe::Others]);
    for (at, (entry, result)) in (LIST..)
        .step_by(64)
        .zip(entries.into_iter().zip([0, 0x4_0011, 0, 1, 0]))
    {
        let [number, op, vcpu] = entry;
        let words = [number, result, op, vcpu, ARG];
        let found = [0, 8, 16, 24, 32].map(|offset| machine.u64(at + offset));
        assert_eq!(found, words);
    }
}

#[test]
fn a_list_that_changes_while_it_waits_is_not_held_up_again() {
    let mut machine = machine();
    put_list(&machine, &[[VCPU_OP, 3, 1], [VCPU_OP, 3, 1]]);
    assert_eq!(waits(&mut machine, 0, list(2)), Observe::Vcpu(1));
    put_list(&machine, &[[VCPU_OP, 3, 2], [VCPU_OP, 3, 1]]);
    let answer = machine.step(0, list(2));
    assert_eq!(machine.u64(LIST + 8), 0, "the first is served");
    assert_eq!(answer.observe, Some(Observe::Vcpu(1)), "the second waits");
    // Nothing but calls that depend on nobody: the observation is not kept for another call.
    put_list(&machine, &[[17, 0, 0], [17, 0, 0]]);
    let Outcome::Again(rest) = answer.outcome else {
        panic!("the second is left");
    };
    assert_eq!(served(&mut machine, 0, rest), 0);
    waits(&mut machine, 0, call(3, 1));
}

#[test]
fn a_vcpu_that_another_leaves_down_waits_for_init() {
    let mut machine = machine();
    machine.call(0, VCPU_OP, &[0, 1, ARG]);
    assert_eq!(machine.take(), [Effect::Park(1)], "initialise");
    machine.call(0, VCPU_OP, &[1, 1, ARG]);
    assert_eq!(machine.take(), [Effect::Start(1)]);
    machine.call(0, VCPU_OP, &[2, 1, ARG]);
    assert_eq!(machine.take(), [Effect::Stop(1), Effect::Park(1)]);
    machine.call(0, VCPU_OP, &[1, 1, ARG]);
    machine.take();
    machine.call(1, VCPU_OP, &[2, 1, ARG]);
    assert_eq!(machine.take(), [Effect::Stop(1)], "its own call");
    machine.call(0, VCPU_OP, &[2, 2, ARG]);
    assert_eq!(machine.take(), [], "it has no registers, and waits already");
}

#[test]
fn calls_that_prepare_a_vcpu_announce_its_start() {
    let mut machine = machine();
    let told = [Effect::StartExpected(1)];
    // bind_virq of a timer, bind_ipi, bind_vcpu of port 1
    for (op, words) in [(1, [0, 1]), (7, [1, 0]), (8, [1, 1])] {
        machine.put_u32(ARG, &words);
        machine.call(0, EVENT_CHANNEL_OP, &[op, ARG]);
        assert_eq!(machine.take(), told, "event_channel_op {op}");
    }
    machine.put_u64(ARG, &[0x20, 0]);
    machine.call(0, VCPU_OP, &[10, 1, ARG]);
    assert_eq!(machine.take().first(), told.first(), "register_vcpu_info");
    for words in [[0_u32, 0], [3, 0]] {
        machine.put_u32(ARG, &words);
        machine.call(0, EVENT_CHANNEL_OP, &[7, ARG]);
        assert_eq!(machine.take(), [], "one that is up, and none");
    }
}
