//! `hvm_op`.

use pvh_abi::sched::ShutdownReason;
use pvh_domain::{Effect, Sleep};

use super::machine::{
    ARG, EVENT_CHANNEL_OP, HVM_OP, Machine, NOWHERE, SCHED_OP, SELF, SHARED_INFO, START_NS, at,
};

/// `HVMOP_set_evtchn_upcall_vector`.
fn set_vector(machine: &mut Machine, vcpu: u32, vector: u8) -> i64 {
    machine.put_u32(ARG, &[vcpu, vector.into()]);
    machine.call(0, HVM_OP, &[23, ARG])
}

#[test]
fn the_params_say_where_the_rings_are() {
    let mut machine = Machine::ready(1);
    for (index, want) in [
        (1, 0xf_effc),
        (2, 1),
        (17, 0xf_efff),
        (18, 2),
        (15, 0),
        (37, 0),
    ] {
        assert_eq!(machine.param(index), Ok(want), "{index}");
    }
    for (index, want) in [(5, -1), (12, -1), (27, -1), (4, -22), (39, -22)] {
        assert_eq!(machine.param(index), Err(want), "{index}");
    }
    assert_eq!(machine.call(0, HVM_OP, &[1, NOWHERE]), -14);
}

#[test]
fn a_guest_sets_only_what_it_may() {
    let mut machine = Machine::ready(1);
    for (index, value, want) in [
        (1, 5, -1),
        (2, 9, 0),
        (4, 1, -22),
        (19, 0, -19),
        (36, 4, 0),
        (36, 5, -22),
        (39, 0, -22),
    ] {
        assert_eq!(machine.set_param(index, value), want, "{index} {value}");
    }
    assert_eq!(machine.param(2), Ok(9));
    machine.put_u64(ARG, &[77, 0]);
    assert_eq!(machine.call(0, HVM_OP, &[0, ARG]), -3);
    assert_eq!(machine.call(0, HVM_OP, &[0, NOWHERE]), -14);
}

#[test]
fn a_wrong_task_state_segment_crashes_the_domain() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(machine.set_param(36, 5), -22);
    assert_eq!(machine.take(), [], "another wrong value does not");
    assert_eq!(machine.set_param(37, 1 << 32), -22);
    assert_eq!(machine.take(), [Effect::Shutdown(ShutdownReason::CRASH)]);
}

#[test]
fn the_callback_latches_the_width_by_the_callers_mode() {
    let mut machine = Machine::ready(1);
    machine.is_64_bit = false;
    machine.now = at(START_NS + 1_000_000_000);
    let port = machine.bind_ipi(0);
    assert_eq!(machine.set_param(0, 1), 0);
    assert_eq!(machine.domain.global_vector(), Some(0xf3), "unchanged");
    // 32-bit: mask words at 2176, the wallclock at 2304, its high word at 2340.
    assert_eq!(machine.u32(SHARED_INFO + 2304) % 2, 0);
    assert_eq!(machine.u32(SHARED_INFO + 2308), 1_700_000_000);
    assert_eq!(machine.u32(SHARED_INFO + 2340), 0);
    machine.put(SHARED_INFO + 2176, &[0xff]);
    machine.put(SHARED_INFO, &[0; 16]);
    machine.send(0, port);
    assert_eq!(machine.u32(SHARED_INFO + 2048), 1 << port);
    assert_eq!(machine.bytes::<1>(SHARED_INFO), [0], "masked there");
    machine.put_u32(ARG, &[port]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[9, ARG]), 0);
    assert_eq!(machine.bytes::<8>(SHARED_INFO), [1, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn writing_the_hypercall_page_latches_the_width_too() {
    let mut machine = Machine::ready(1);
    let compat = pvh_hypercall::Width::Compat;
    let (domain, memory) = (&mut machine.domain, &machine.memory);
    domain.hypercall_page_written(memory, compat, at(START_NS));
    assert_eq!(machine.u32(SHARED_INFO + 2308), 1_700_000_000);
}

#[test]
fn the_wallclock_is_there_as_soon_as_the_page_is_mapped() {
    let machine = Machine::ready(1);
    assert_eq!(machine.u32(SHARED_INFO + 3072) % 2, 0);
    assert_eq!(machine.u32(SHARED_INFO + 3076), 1_700_000_000);
    assert_eq!(machine.u32(SHARED_INFO + 3080), 0);
}

#[test]
fn a_vcpus_own_vector_is_sent_when_it_is_set_and_with_each_upcall() {
    let mut machine = Machine::new(2);
    machine.map_shared_info(SHARED_INFO);
    let port = machine.bind_ipi(1);
    machine.take();
    let own = Effect::VcpuVector {
        vcpu: 1,
        vector: 0x31,
    };
    assert_eq!(set_vector(&mut machine, 1, 0x31), 0);
    assert_eq!(machine.take(), core::slice::from_ref(&own));
    assert_eq!(machine.domain.vcpu_vector(1), Some(0x31));
    machine.send(0, port);
    assert_eq!(machine.take(), core::slice::from_ref(&own));
    machine.set_param(0, 2 << 56 | 0xf3);
    machine.acknowledge(1);
    machine.take();
    machine.send(0, port);
    let global = Effect::GlobalVector {
        vcpu: 1,
        vector: 0xf3,
    };
    assert_eq!(machine.take(), [own, global], "both, if it chose both");
}

#[test]
fn the_errors_of_a_vector() {
    let mut machine = Machine::ready(2);
    assert_eq!(set_vector(&mut machine, 0, 0xf), -22);
    assert_eq!(set_vector(&mut machine, 2, 0xf), -22, "before the vCPU");
    assert_eq!(set_vector(&mut machine, 2, 0x10), -2);
    assert_eq!(machine.call(0, HVM_OP, &[23, NOWHERE]), -14);
}

#[test]
fn a_new_global_vector_tells_the_vcpus_that_are_up_and_have_events() {
    let mut machine = Machine::ready(3);
    machine.start(1);
    let ports = [0, 1, 2].map(|vcpu| machine.bind_ipi(vcpu));
    for port in [ports[1], ports[2]] {
        machine.send(0, port);
    }
    machine.take();
    assert_eq!(machine.set_param(0, 2 << 56 | 0x40), 0);
    let told = Effect::GlobalVector {
        vcpu: 1,
        vector: 0x40,
    };
    assert_eq!(machine.take(), [told]);
}

#[test]
fn a_vector_that_is_set_wakes_its_vcpu() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    machine.call(1, SCHED_OP, &[1, 0]);
    assert_eq!(machine.sleep, Some(Sleep::Block));
    machine.take();
    set_vector(&mut machine, 1, 0x31);
    assert_eq!(machine.take().last(), Some(&Effect::Wake(1)));
}

#[test]
fn tlbs_are_flushed_for_a_null_pointer_only() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(machine.call(0, HVM_OP, &[5, 0]), 0);
    assert_eq!(machine.take(), [Effect::FlushTlbs]);
    assert_eq!(machine.call(0, HVM_OP, &[5, ARG]), -22);
    assert_eq!(machine.take(), []);
}

#[test]
fn time_memory_types_and_page_tables() {
    let mut machine = Machine::ready(1);
    machine.now = at(START_NS + 1234);
    assert_eq!(machine.call(0, HVM_OP, &[10, ARG]), 0);
    assert_eq!(machine.u64(ARG), START_NS + 1234);
    assert_eq!(machine.call(0, HVM_OP, &[10, NOWHERE]), -14);
    for (gfn, want) in [(5_u64, 0), (0x2_0000, 2), (0xf_efff, 0)] {
        machine.put_u64(ARG, &[SELF | 0xffff << 16, gfn]);
        assert_eq!(machine.call(0, HVM_OP, &[15, ARG]), 0);
        assert_eq!(machine.bytes::<2>(ARG + 2), [want, 0], "{gfn:#x}");
    }
    machine.put_u64(ARG, &[77, 5]);
    assert_eq!(machine.call(0, HVM_OP, &[15, ARG]), -3);
    machine.put_u64(ARG, &[SELF, 0]);
    assert_eq!(machine.call(0, HVM_OP, &[9, ARG]), -22, "pagetable_dying");
}

#[test]
fn what_moved_elsewhere_is_enosys() {
    let mut machine = Machine::ready(1);
    for op in [2, 3, 4, 6, 7, 8, 12, 13, 14, 16, 22, 26] {
        assert_eq!(machine.call(0, HVM_OP, &[op, ARG]), -38, "{op}");
    }
}
