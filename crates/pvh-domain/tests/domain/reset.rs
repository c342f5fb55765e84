//! Soft reset.

use pvh_abi::sched::ShutdownReason;
use pvh_domain::Effect;

use super::machine::{
    ARG, EVENT_CHANNEL_OP, MEMORY_OP, Machine, SCHED_OP, SELF, SHARED_INFO, VCPU_OP,
};

/// `SCHEDOP_shutdown`, reason 5.
fn soft_reset(machine: &mut Machine) {
    machine.put_u32(ARG, &[5]);
    assert_eq!(machine.call(0, SCHED_OP, &[2, ARG]), 0);
}

/// `XENMEM_current_reservation`.
fn pages(machine: &mut Machine) -> i64 {
    machine.put_u64(ARG, &[SELF]);
    machine.call(0, MEMORY_OP, &[3, ARG])
}

#[test]
fn a_soft_reset_returns_and_the_domain_goes_on() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    soft_reset(&mut machine);
    assert!(!machine.domain.is_over());
    let shut_down = |effect: &Effect| matches!(effect, Effect::Shutdown(_) | Effect::Stop(_));
    assert!(!machine.take().iter().any(shut_down));
    assert_eq!(machine.call(0, VCPU_OP, &[3, 1, 0]), 1, "vCPUs stay");
    machine.put_u32(ARG, &[1]);
    assert_eq!(machine.call(0, SCHED_OP, &[2, ARG]), 0);
    assert!(machine.domain.is_over(), "a later reason counts");
}

#[test]
fn a_soft_reset_that_was_announced_is_a_power_off_when_no_vcpu_is_left() {
    let mut machine = Machine::ready(1);
    machine.put_u32(ARG, &[5]);
    assert_eq!(machine.call(0, SCHED_OP, &[5, ARG]), 0, "shutdown_code");
    machine.take();
    assert_eq!(machine.call(0, VCPU_OP, &[2, 0, 0]), 0);
    let off = Effect::Shutdown(ShutdownReason::POWEROFF);
    assert_eq!(machine.take(), [off]);
}

#[test]
fn its_ports_are_closed_and_the_services_have_1_and_2() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_ipi(0);
    machine.put_u64(ARG, &[0x10]);
    machine.put_u32(ARG + 8, &[0, 0, 0, 0]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[11, ARG]), 0, "FIFO");
    soft_reset(&mut machine);
    let [store, console] = machine.domain.service_ports();
    assert_eq!((store.unwrap().0, console.unwrap().0), (1, 2));
    assert_eq!((machine.param(2), machine.param(18)), (Ok(1), Ok(2)));
    assert_eq!(machine.send(0, port), -22, "closed");
    assert_eq!(machine.bind_ipi(0), port, "free");
    machine.map_shared_info(0x7000);
    machine.send(0, port);
    assert_eq!(machine.u64(0x7000 + 2048), 1 << port, "two levels again");
}

#[test]
fn shared_info_leaves_a_page_of_zeros_and_can_be_mapped_anew() {
    let mut machine = Machine::ready(1);
    let before = pages(&mut machine);
    soft_reset(&mut machine);
    assert_eq!(machine.bytes::<4096>(SHARED_INFO), [0; 4096]);
    assert_eq!(pages(&mut machine), before + 1, "a page of the guest's");
    machine.map_shared_info(0x7000);
    assert_ne!(machine.u32(0x7000 + 32 + 24), 0, "with the time");
    assert_eq!(
        machine.u32(0x7000 + 3076),
        1_700_000_000,
        "and the wallclock"
    );
}

#[test]
fn vcpu_info_and_areas_are_taken_back_and_can_be_registered_again() {
    let mut machine = Machine::ready(1);
    for round in 0..2 {
        machine.put_u64(ARG, &[6, round * 64]);
        assert_eq!(machine.call(0, VCPU_OP, &[10, 0, ARG]), 0);
        machine.put_u64(ARG, &[0x9000]);
        assert_eq!(machine.call(0, VCPU_OP, &[5, 0, ARG]), 0);
        assert_eq!(machine.call(0, VCPU_OP, &[13, 0, ARG]), 0);
        soft_reset(&mut machine);
        machine.put(0x9000, &[0xaa; 64]);
        machine.call(0, SCHED_OP, &[1, 0]);
        machine.enter(0);
        assert_eq!(machine.bytes::<64>(0x9000), [0xaa; 64]);
    }
}

#[test]
fn the_stores_ring_begins_anew() {
    let mut machine = Machine::ready(1);
    let ring = 0xfeff_c000;
    machine.put_u32(ring + 2048, &[7, 9, 100, 200]);
    soft_reset(&mut machine);
    assert_eq!(machine.bytes::<16>(ring + 2048), [0; 16]);
    assert!(!machine.domain.can_be_asked(), "no watch is left");
}
