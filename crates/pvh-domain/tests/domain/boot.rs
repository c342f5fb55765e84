//! Guests as they boot, one call after another.

use pvh_domain::Effect;

use super::machine::{
    ARG, EVENT_CHANNEL_OP, HVM_OP, MEMORY_OP, Machine, SCHED_OP, SELF, SHARED_INFO, START_NS,
    VCPU_OP, VECTOR, XEN_VERSION, at,
};

const MS: u64 = 1_000_000;
/// Where the Linux of these tests has what.
const VCPU_INFOS: u64 = 0x4_0000;
const CONTROL_GFN: u64 = 0x50;
const ARRAY_GFN: u64 = 0x60;

/// What Linux asks before it has interrupts.
fn early(machine: &mut Machine) {
    assert_eq!(machine.call(0, XEN_VERSION, &[0, 0]), 0x4_0011);
    machine.put_u32(ARG, &[0, 0]);
    assert_eq!(machine.call(0, XEN_VERSION, &[6, ARG]), 0);
    assert_eq!(machine.u32(ARG + 4) & 1 << 8, 1 << 8, "callback vector");
    machine.map_shared_info(SHARED_INFO);
}

/// `VCPUOP_register_vcpu_info` for a vCPU, as the first one does it for all.
fn register_vcpu_info(machine: &mut Machine, vcpu: u32) {
    let at = VCPU_INFOS + 64 * u64::from(vcpu);
    machine.put_u64(ARG, &[at >> 12]);
    machine.put_u32(ARG + 8, &[u32::try_from(at & 0xfff).unwrap(), 0]);
    assert_eq!(machine.call(0, VCPU_OP, &[10, vcpu.into(), ARG]), 0);
}

fn init_control(machine: &mut Machine, vcpu: u32) {
    machine.put_u64(ARG, &[CONTROL_GFN + u64::from(vcpu)]);
    machine.put_u32(ARG + 8, &[0, vcpu, 0, 0]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[11, ARG]), 0);
}

/// What an upcall routine does with FIFO events: answers the ports, in order.
fn take_fifo(machine: &Machine, vcpu: u32) -> Vec<u32> {
    let block = (CONTROL_GFN + u64::from(vcpu)) << 12;
    machine.put(VCPU_INFOS + 64 * u64::from(vcpu), &[0]);
    let ready = machine.u32(block);
    machine.put_u32(block, &[0]);
    let mut ports = Vec::new();
    for queue in (0..16).filter(|queue| ready >> queue & 1 == 1) {
        let mut port = machine.u32(block + 8 + 4 * queue);
        while port != 0 {
            ports.push(port);
            let at = (ARRAY_GFN << 12) + 4 * u64::from(port);
            let word = machine.u32(at);
            machine.put_u32(at, &[word & !0xa001_ffff]);
            port = word & 0x1_ffff;
        }
    }
    ports
}

#[test]
fn a_linux_boots_to_its_first_tick_on_two_vcpus() {
    let mut machine = Machine::new(2);
    early(&mut machine);
    register_vcpu_info(&mut machine, 0);
    for vcpu in [0, 1] {
        machine.put_u32(ARG, &[vcpu, VECTOR.into()]);
        assert_eq!(machine.call(0, HVM_OP, &[23, ARG]), 0);
    }
    assert_eq!(machine.set_param(0, 1), 0, "for the toolstack's eyes");
    assert_eq!(machine.domain.global_vector(), None);
    assert_eq!(machine.call(0, VCPU_OP, &[7, 0, 0]), 0, "VCPUOP timers");
    init_control(&mut machine, 0);
    machine.put_u64(ARG, &[ARRAY_GFN]);
    assert_eq!(machine.call(0, EVENT_CHANNEL_OP, &[12, ARG]), 0);
    let timer = machine.bind_virq(0, 0).unwrap();
    machine.put_u64(ARG, &[0x5_8000]);
    assert_eq!(machine.call(0, VCPU_OP, &[5, 0, ARG]), 0);
    register_vcpu_info(&mut machine, 1);
    init_control(&mut machine, 1);
    let ipi = machine.bind_ipi(1);
    let second_timer = machine.bind_virq(0, 1).unwrap();
    take_fifo(&machine, 0);
    take_fifo(&machine, 1);

    let (domain, memory) = (&mut machine.domain, &machine.memory);
    domain.sipi(memory, 1, 0x9a, machine.now, &mut machine.effects);
    assert_eq!(machine.take().last(), Some(&Effect::Start(1)));
    machine.enter(1);
    machine.put_u64(ARG, &[START_NS + MS, 0]);
    assert_eq!(machine.call(0, VCPU_OP, &[8, 0, ARG]), 0);
    machine.put_u64(ARG, &[START_NS + 2 * MS, 0]);
    assert_eq!(machine.call(1, VCPU_OP, &[8, 1, ARG]), 0);

    let own = |vcpu| Effect::VcpuVector {
        vcpu,
        vector: VECTOR,
    };
    for (vcpu, port) in [(0, timer), (1, second_timer)] {
        let due_ns = machine.deadline_ns().unwrap();
        assert_eq!(due_ns, START_NS + MS * (u64::from(vcpu) + 1));
        machine.tick_at(due_ns);
        assert_eq!(machine.take(), [own(vcpu)]);
        assert!(machine.domain.is_upcall_pending(&machine.memory, vcpu));
        assert_eq!(take_fifo(&machine, vcpu), [port]);
        assert!(!machine.domain.is_upcall_pending(&machine.memory, vcpu));
    }
    machine.send(0, ipi);
    assert_eq!(machine.take(), [own(1)]);
    assert_eq!(take_fifo(&machine, 1), [ipi]);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_grub_prints_waits_and_reads_its_clock() {
    let mut machine = Machine::new(1);
    machine.is_64_bit = false;
    let compat = pvh_hypercall::Width::Compat;
    let (domain, memory) = (&mut machine.domain, &machine.memory);
    domain.hypercall_page_written(memory, compat, machine.now);
    machine.put_u32(ARG, &[0x7ff0, 0, 0, 5]);
    assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), 0);
    machine.put_u32(ARG, &[0x7ff0, 1, 0, 6]);
    assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), 0, "the grant table");
    assert_eq!(machine.u32(0x6004), 0xf_efff);
    assert_ne!(machine.u32(0x5000 + 32 + 24), 0, "what it divides by");
    let console = machine.param(18).unwrap();
    let page = machine.param(17).unwrap() << 12;
    machine.put(page + 1024, b"GRUB");
    machine.put_u32(page + 3084, &[4]);
    machine.take();
    assert_eq!(machine.send(0, u32::try_from(console).unwrap()), 0);
    assert_eq!(machine.call(0, SCHED_OP, &[0, 0]), 0);
    assert_eq!(machine.take(), [Effect::Output(b"GRUB".to_vec())]);
    assert_eq!(machine.u32(page + 3080), 4, "drained");
}

#[test]
fn a_guest_that_polls_its_console_is_woken_by_a_key() {
    let mut machine = Machine::ready(1);
    machine.put(SHARED_INFO + 2560, &[0xff; 8]);
    machine.put_u64(ARG, &[ARG + 0x100, 1, START_NS + 9 * MS]);
    machine.put_u32(ARG + 0x100, &[2]);
    assert_eq!(machine.call(0, SCHED_OP, &[3, ARG]), 0);
    machine.take();
    machine.now = at(START_NS + MS);
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    assert_eq!(
        domain.console_input(&machine.memory, machine.now, b"\r", effects),
        1
    );
    assert_eq!(machine.take(), [Effect::Wake(0)]);
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_mini_os_with_two_level_events_and_set_timer_op_ticks() {
    let mut machine = Machine::ready(1);
    let port = machine.bind_virq(0, 0).unwrap();
    machine.take();
    for tick in 1..=3 {
        let due_ns = START_NS + tick * 10 * MS;
        assert_eq!(machine.call(0, 15, &[due_ns]), 0);
        assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
        machine.tick_at(machine.deadline_ns().unwrap());
        assert_eq!(machine.take().last(), Some(&Effect::Wake(0)));
        assert!(machine.is_pending(port));
        machine.enter(0);
        machine.acknowledge(0);
    }
}

#[test]
fn a_guest_that_maps_the_grant_table_at_a_hole_reads_its_rings() {
    let mut machine = Machine::ready(1);
    let at = 0x3000_0000_u64;
    machine.put_u64(ARG, &[SELF | 1 << 32, 0, at >> 12]);
    assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), 0);
    assert_eq!(machine.u32(at + 4), 0xf_efff);
}
