//! `VCPUOP_register_vcpu_info`.

use pvh_domain::{Effect, Sleep};

use super::machine::{ARG, Machine, NOWHERE, SCHED_OP, SHARED_INFO, START_NS, VCPU_OP, VECTOR, at};

/// `VCPUOP_register_vcpu_info` by vCPU 0.
fn register(machine: &mut Machine, vcpu: u64, gfn: u64, offset: u32) -> i64 {
    machine.put_u64(ARG, &[gfn]);
    machine.put_u32(ARG + 8, &[offset, 0x5555]);
    machine.call(0, VCPU_OP, &[10, vcpu, ARG])
}

#[test]
fn a_registered_vcpu_info_has_everything_pending_and_the_time() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(register(&mut machine, 0, 6, 0x100), 0);
    let upcall = Effect::GlobalVector {
        vcpu: 0,
        vector: VECTOR,
    };
    assert_eq!(machine.take(), [upcall]);
    assert_eq!(machine.bytes::<1>(0x6100), [1]);
    assert_eq!(machine.u64(0x6108), u64::MAX);
    assert_eq!(machine.u64(0x6120 + 16), START_NS, "system time");
    assert!(machine.domain.is_upcall_pending(&machine.memory, 0));
}

#[test]
fn events_go_to_the_registered_place_and_not_to_the_old_one() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    register(&mut machine, 0, 6, 0);
    machine.put(0x6000, &[0; 16]);
    machine.put(SHARED_INFO, &[0; 16]);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.bytes::<1>(0x6000), [1]);
    assert_eq!(machine.u64(0x6008), 1);
    assert_eq!(machine.bytes::<16>(SHARED_INFO), [0; 16]);
    assert_eq!(machine.take().len(), 1);
}

#[test]
fn the_errors_are_those_of_4_17() {
    let mut machine = Machine::ready(3);
    machine.start(2);
    assert_eq!(machine.call(0, VCPU_OP, &[10, 0, NOWHERE]), -14);
    for (vcpu, gfn, offset, want, why) in [
        (3, 6, 0, -2, "no such vCPU"),
        (0, 6, 4033, -6, "crosses the page"),
        (0, 6, 4, -6, "not aligned to 8"),
        (0, 0x100, 0, -22, "no RAM"),
        (0, 1 << 52, 0, -22, "beyond any address"),
        (2, 6, 0, -22, "another vCPU that is up"),
        (1, 6, 64, 0, "another vCPU that is down"),
        (0, 6, 0, 0, "the caller's"),
        (0, 7, 0, -22, "a second time"),
    ] {
        assert_eq!(register(&mut machine, vcpu, gfn, offset), want, "{why}");
    }
}

#[test]
fn a_vcpu_from_32_on_has_none_before_it_registers_one_and_cannot_be_initialised() {
    let mut machine = Machine::ready(34);
    let port = machine.bind_ipi(33);
    machine.take();
    machine.send(0, port);
    assert_eq!(machine.take(), [], "nowhere to be told");
    let upcall = Effect::GlobalVector {
        vcpu: 33,
        vector: VECTOR,
    };
    machine.put_context(0x7000, 0);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 33, 0x7000]), -22);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 33, NOWHERE]), -22, "before");
    assert_eq!(register(&mut machine, 33, 6, 0), 0);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 33, NOWHERE]), -14);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 33, 0x7000]), 0);
    let told = [Effect::StartExpected(33), upcall, Effect::Park(33)];
    assert_eq!(machine.take(), told, "an upcall for what was missed");
}

#[test]
fn a_registration_wakes_a_vcpu_that_was_put_to_sleep() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    machine.call(1, SCHED_OP, &[1, 0]);
    assert_eq!(machine.sleep, Some(Sleep::Block));
    machine.call(0, VCPU_OP, &[2, 1, 0]);
    machine.take();
    assert_eq!(register(&mut machine, 1, 6, 0), 0);
    let effects = machine.take();
    assert_eq!(effects.last(), Some(&Effect::Wake(1)));
}

#[test]
fn the_time_is_the_same_pair_for_every_vcpu_with_a_version_that_moves_on() {
    let mut machine = Machine::ready(2);
    machine.now = at(START_NS + 77);
    machine.start(1);
    let (first, second) = (SHARED_INFO + 32, SHARED_INFO + 96);
    assert_eq!(machine.bytes::<24>(first + 8), machine.bytes(second + 8));
    assert_eq!(machine.u64(first + 8), 0, "the TSC when the domain began");
    assert_eq!(machine.u64(first + 16), START_NS, "and the system time");
    assert_eq!(
        machine.u32(first + 24),
        0x8000_0000,
        "half of 2^32 for 1 GHz"
    );
    assert_eq!(
        machine.bytes::<2>(first + 28),
        [1, 1],
        "doubled, and stable"
    );
    let version = machine.u32(first);
    machine.domain.update_time(&machine.memory, 0);
    assert_eq!(machine.u32(first), version + 2);
}
