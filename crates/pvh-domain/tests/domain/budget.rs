//! One go of a call keeps the domain for a bounded time; the rest of the call follows.

use pvh_hypercall::{Call, Outcome, Width};

use super::machine::{ARG, EVENT_CHANNEL_OP, MEMORY_OP, MULTICALL, Machine, SCHED_OP, SELF};

/// Where a test puts a list, and its entries of 64 bytes.
const LIST: u64 = 0xa000;

/// Puts a 64-bit multicall entry.
fn entry(machine: &Machine, index: u64, op: u64, args: [u64; 2]) {
    machine.put_u64(LIST + index * 64, &[op, 0, args[0], args[1]]);
}

fn result(machine: &Machine, index: u64) -> u64 {
    machine.u64(LIST + index * 64 + 8)
}

#[test]
fn a_service_that_is_called_ends_the_go() {
    let mut machine = Machine::ready(1);
    let [store, console] = machine.domain.service_ports();
    for port in [store, console] {
        machine.put_u32(ARG, &[port.unwrap().0]);
        entry(&machine, 0, EVENT_CHANNEL_OP, [4, ARG]);
        entry(&machine, 1, SCHED_OP, [0, 0]);
        let call = Call::new(Width::Native, MULTICALL, [LIST, 2, 0, 0, 0]);
        let rest = Call::new(Width::Native, MULTICALL, [LIST + 64, 1, 0, 0, 0]);
        assert_eq!(machine.step(0, call).outcome, Outcome::Again(rest));
        assert_eq!(machine.step(0, rest).outcome, Outcome::Return(0));
    }
}

#[test]
fn a_vcpu_that_is_reset_in_the_middle_of_an_extent_forgets_it() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    // populate_physmap of four pages in a hole.
    machine.put_u64(LIST, &[LIST + 64, 1, 2, SELF]);
    machine.put_u64(LIST + 64, &[0x500]);
    let call = Call::new(Width::Native, MEMORY_OP, [6, LIST, 0, 0, 0]);
    assert_eq!(machine.step(1, call).outcome, Outcome::Again(call));
    let (domain, now) = (&mut machine.domain, machine.now);
    domain.init(&machine.memory, 1, now, &mut machine.effects);
    machine.start(1);
    // From its beginning: the page that is there is covered, and each page takes a go.
    for _ in 0..3 {
        assert_eq!(machine.step(1, call).outcome, Outcome::Again(call));
    }
    assert_eq!(machine.step(1, call).outcome, Outcome::Return(1));
}

#[test]
fn two_vcpus_may_be_in_the_middle_of_an_extent_each() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    for (list, gfn) in [(ARG + 0x100, 0x500), (ARG + 0x200, 0x600)] {
        machine.put_u64(list, &[list + 64, 1, 1, SELF]);
        machine.put_u64(list + 64, &[gfn]);
    }
    let calls = [ARG + 0x100, ARG + 0x200]
        .map(|list| Call::new(Width::Native, MEMORY_OP, [6, list, 0, 0, 0]));
    for (vcpu, call) in (0..).zip(calls) {
        assert_eq!(machine.step(vcpu, call).outcome, Outcome::Again(call));
    }
    for (vcpu, call) in (0..).zip(calls) {
        assert_eq!(machine.step(vcpu, call).outcome, Outcome::Return(1));
    }
}

#[test]
fn a_long_multicall_gives_the_same_results_in_many_goes() {
    let mut machine = Machine::ready(1);
    // Two pages of a hole in each of four entries, then all of them given back.
    for index in 0..8 {
        let at = ARG + 0x100 + index * 64;
        machine.put_u64(at, &[at + 32, 1, 1, SELF]);
        machine.put_u64(at + 32, &[0x500 + index % 4 * 2]);
        let op = if index < 4 { 6 } else { 1 };
        entry(&machine, index, MEMORY_OP, [op, at]);
    }
    let mut call = Call::new(Width::Native, MULTICALL, [LIST, 8, 0, 0, 0]);
    let mut goes = 1;
    while let Outcome::Again(rest) = machine.step(0, call).outcome {
        call = rest;
        goes += 1;
    }
    assert_eq!(goes, 16, "one for each change of a memory slot");
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6, 7].map(|index| result(&machine, index)),
        [1; 8]
    );
}
