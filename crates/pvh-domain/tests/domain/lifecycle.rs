//! INIT, start-up interrupts and the end of a domain.

use core::num::NonZeroU64;

use pvh_abi::{DomId, Gpa, sched::ShutdownReason};
use pvh_domain::{Domain, DomainError, Effect, Now};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_vcpu::{Orders, State};

use super::{
    machine::{ARG, Machine, RAM_BYTES, SCHED_OP, START_NS, VCPU_OP, at, config, memory},
    recorded,
};

type Event = fn(&mut recorded::Domain, &VecMemory, Now, &mut Vec<Effect>);

/// What happens to vCPU 1, without a hypercall.
fn happen(machine: &mut Machine, event: Event) -> Vec<Effect> {
    machine.take();
    let domain = &mut machine.domain;
    event(domain, &machine.memory, machine.now, &mut machine.effects);
    machine.take()
}

const INIT: Event = |domain, memory, now, effects| domain.init(memory, 1, now, effects);
const SIPI: Event = |domain, memory, now, effects| domain.sipi(memory, 1, 0x9a, now, effects);
const FOUND: Event = |domain, memory, now, _| domain.found_running(memory, 1, now);
const HALT: Event = |domain, memory, now, effects| domain.halted(memory, 1, now, effects);

#[test]
fn a_sipi_starts_a_vcpu_in_real_mode_and_is_up_tells() {
    let mut machine = Machine::ready(2);
    assert_eq!(happen(&mut machine, SIPI), [Effect::Start(1)]);
    let Orders::Run(Some(state)) = machine.domain.orders(1) else {
        panic!("it starts with registers");
    };
    assert_eq!((state.cs.base, state.rip), (0x9_a000, 0));
    assert_eq!(machine.call(0, VCPU_OP, &[3, 1, 0]), 1);
    machine.put_context(ARG, 0);
    assert_eq!(machine.call(0, VCPU_OP, &[0, 1, ARG]), -17);
    assert_eq!(happen(&mut machine, SIPI), [], "ignored by one that is up");
}

#[test]
fn init_takes_a_vcpu_down_and_its_registers_away() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    machine.call(1, SCHED_OP, &[1, 0]);
    assert_eq!(happen(&mut machine, INIT), [Effect::Stop(1)]);
    assert_eq!(machine.domain.lifecycle(1), Some(State::Reset));
    assert_eq!(machine.call(0, VCPU_OP, &[1, 1, 0]), -22);
    machine.start(1);
    assert_eq!(machine.call(0, VCPU_OP, &[3, 1, 0]), 1);
}

#[test]
fn a_vcpu_that_is_found_running_is_up_and_keeps_its_registers() {
    let mut machine = Machine::ready(2);
    assert_eq!(happen(&mut machine, FOUND), []);
    assert_eq!(machine.call(0, VCPU_OP, &[3, 1, 0]), 1);
    assert_eq!(machine.domain.orders(1), Orders::Run(None));
    assert_eq!(happen(&mut machine, FOUND), []);
    assert_eq!(machine.call(0, VCPU_OP, &[2, 1, 0]), 0);
    machine.take();
    assert_eq!(happen(&mut machine, FOUND), [], "one that is down too");
    assert_eq!(machine.call(0, VCPU_OP, &[3, 1, 0]), 1);
    assert_eq!(machine.domain.orders(1), Orders::Run(None));
}

#[test]
fn a_halt_with_interrupts_off_is_a_down() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    assert_eq!(happen(&mut machine, HALT), [Effect::Stop(1)]);
    let last: Event = |domain, memory, now, effects| domain.halted(memory, 0, now, effects);
    let off = Effect::Shutdown(ShutdownReason::POWEROFF);
    assert_eq!(happen(&mut machine, last), [off]);
}

#[test]
fn the_embedder_may_end_the_domain() {
    let mut machine = Machine::ready(2);
    let crash: Event = |domain, memory, now, effects| {
        let reason = domain.triple_fault_reason();
        domain.end(memory, reason, now, effects);
    };
    let reboot = Effect::Shutdown(ShutdownReason(1));
    assert_eq!(happen(&mut machine, crash), [reboot], "Xen's default");
    assert_eq!(happen(&mut machine, crash), [], "once");
    assert_eq!(machine.domain.orders(0), Orders::End);
}

#[test]
fn a_vcpu_that_does_not_exist_has_orders_to_end() {
    let mut machine = Machine::ready(2);
    assert_eq!(machine.domain.orders(2), Orders::End);
    assert_eq!(machine.domain.lifecycle(2), None);
    machine.enter(2);
    assert_eq!(machine.domain.vcpu_vector(2), None);
}

#[test]
fn a_domain_has_1_to_128_vcpus() {
    for vcpus in [0, 129, u32::MAX] {
        let refused = Domain::new(config(vcpus), &memory(), at(START_NS)).unwrap_err();
        assert_eq!(refused, DomainError::Vcpus { vcpus });
        assert_eq!(
            refused.to_string(),
            format!("a domain has 1 to 128 vCPUs, not {vcpus}")
        );
    }
    assert!(Domain::new(config(128), &memory(), at(START_NS)).is_ok());
}

#[test]
fn a_domain_has_an_id_of_a_guest() {
    for id in [0, 0x7ff0, 0xffff] {
        let mut wrong = config(1);
        wrong.domid = DomId(id);
        let refused = Domain::new(wrong, &memory(), at(START_NS)).unwrap_err();
        assert_eq!(refused, DomainError::Id { id });
    }
}

#[test]
fn the_special_pages_are_made_or_cleared() {
    let without = VecMemory::zeroed(&[(Gpa(0), RAM_BYTES)]).unwrap();
    let refused = Domain::new(config(1), &without, at(START_NS)).unwrap_err();
    assert!(matches!(refused, DomainError::Frame { gfn: 0xfeff8, .. }));
    let ranges = [(Gpa(0), RAM_BYTES), (Gpa(0xfeff_8000), 0x8000)];
    let dirty = VecMemory::zeroed(&ranges).unwrap();
    dirty.write(Gpa(0xfeff_8000), &[0xaa; 0x8000]).unwrap();
    Domain::new(config(1), &dirty, at(START_NS)).unwrap();
    let mut page = [1; 0x1000];
    dirty.read(Gpa(0xfeff_f000), &mut page).unwrap();
    assert_eq!(page, [0; 0x1000], "the console's");
    dirty.read(Gpa(0xfeff_e000), &mut page).unwrap();
    assert_eq!(page[..8], [0xe7, 0, 0, 0, 0xe7, 0, 0x40, 0], "identity");
}

#[test]
fn the_time_comes_from_the_rate_of_the_tsc() {
    let mut slow = config(1);
    slow.tsc_hz = NonZeroU64::new(2_500_000_000).unwrap();
    slow.is_tsc_stable = false;
    let mut machine = Machine::with(slow);
    machine.map_shared_info(0x1000);
    assert_eq!(
        machine.bytes::<2>(0x1000 + 60),
        [0xff, 0],
        "halved, not stable"
    );
    assert_eq!(machine.u32(0x1000 + 56), 0xcccc_cccc, "0.8");
}
