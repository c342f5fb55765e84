//! Runstate and time areas.

use pvh_abi::Gpa;
use pvh_domain::RunState;
use pvh_memory::{GuestMemory, PagingState};

use super::machine::{
    ARG, Machine, NOWHERE, RAM_BYTES, SCHED_OP, SHARED_INFO, START_NS, VCPU_OP, VM_ASSIST, at,
};

/// Where areas are.
const AREA: u64 = 0x6000;
/// Bit 63 of a runstate's time.
const UPDATING: u64 = 1 << 63;

/// `VCPUOP_register_runstate_memory_area` (5) or `VCPUOP_register_vcpu_time_memory_area` (13).
fn register(machine: &mut Machine, op: u64, vcpu: u64, linear: u64) -> i64 {
    machine.put_u64(ARG, &[linear]);
    machine.call(0, VCPU_OP, &[op, vcpu, ARG])
}

/// State, time of entry, times, as 64-bit guests read them.
fn runstate(machine: &Machine, at: u64) -> (u32, u64, [u64; 4]) {
    let times = [0, 8, 16, 24].map(|offset| machine.u64(at + 16 + offset));
    (machine.u32(at), machine.u64(at + 8), times)
}

#[test]
fn the_runstate_area_follows_the_vcpu_from_running_to_blocked_to_running() {
    let mut machine = Machine::ready(1);
    assert_eq!(register(&mut machine, 5, 0, AREA), 0);
    assert_eq!(runstate(&machine, AREA), (0, START_NS, [0; 4]));
    machine.now = at(START_NS + 100);
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    let blocked = (2, START_NS + 100, [100, 0, 0, 0]);
    assert_eq!(runstate(&machine, AREA), blocked);
    machine.now = at(START_NS + 130);
    machine.enter(0);
    let running = (0, START_NS + 130, [100, 0, 30, 0]);
    assert_eq!(runstate(&machine, AREA), running);
}

#[test]
fn a_vcpu_that_is_woken_is_runnable_until_it_runs() {
    let mut machine = Machine::ready(2);
    let port = machine.bind_ipi(0);
    machine.start(1);
    register(&mut machine, 5, 0, AREA);
    machine.call(0, SCHED_OP, &[1, 0]);
    machine.now = at(START_NS + 10);
    machine.send(1, port);
    assert_eq!(machine.u32(AREA), 1);
    machine.now = at(START_NS + 15);
    machine.enter(0);
    let times = [0, 5, 10, 0];
    assert_eq!(runstate(&machine, AREA), (0, START_NS + 15, times));
}

#[test]
fn the_embedder_may_change_a_runstate() {
    let mut machine = Machine::ready(1);
    register(&mut machine, 5, 0, AREA);
    let (domain, memory) = (&mut machine.domain, &machine.memory);
    domain.state_changed(memory, 0, RunState::Runnable, at(START_NS + 7));
    assert_eq!(runstate(&machine, AREA).0, 1);
}

#[test]
fn an_area_of_another_vcpu_has_its_time_counted_up_to_now() {
    let mut machine = Machine::ready(2);
    machine.now = at(START_NS + 40);
    assert_eq!(register(&mut machine, 5, 1, AREA), 0);
    let offline = (3, START_NS, [0, 0, 0, 40]);
    assert_eq!(runstate(&machine, AREA), offline);
    machine.start(1);
    assert_eq!(runstate(&machine, AREA).0, 0);
    machine.call(0, VCPU_OP, &[2, 1, 0]);
    assert_eq!(runstate(&machine, AREA).0, 3, "down");
}

#[test]
fn a_vcpu_that_is_down_is_offline_whatever_its_thread_still_does() {
    let mut machine = Machine::ready(2);
    machine.start(1);
    register(&mut machine, 5, 1, AREA);
    machine.call(1, SCHED_OP, &[1, 0]);
    machine.call(0, VCPU_OP, &[2, 1, 0]);
    machine.enter(1);
    machine.call(1, SCHED_OP, &[0, 0]);
    assert_eq!(runstate(&machine, AREA).0, 3);
    let port = machine.bind_ipi(1);
    machine.call(1, SCHED_OP, &[1, 0]);
    machine.send(0, port);
    assert_eq!(runstate(&machine, AREA).0, 3, "woken, and down");
    machine.call(0, VCPU_OP, &[1, 1, 0]);
    assert_eq!(runstate(&machine, AREA).0, 1);
}

#[test]
fn get_runstate_info_counts_up_to_now_in_both_layouts() {
    let mut machine = Machine::ready(1);
    machine.now = at(START_NS + 40);
    machine.put(ARG, &[0xaa; 64]);
    assert_eq!(machine.call(0, VCPU_OP, &[4, 0, ARG]), 0);
    assert_eq!(runstate(&machine, ARG), (0, START_NS, [40, 0, 0, 0]));
    assert_eq!(machine.u64(ARG + 48), 0xaaaa_aaaa_aaaa_aaaa);
    machine.is_64_bit = false;
    machine.put(ARG, &[0xaa; 64]);
    assert_eq!(machine.call(0, VCPU_OP, &[4, 0, ARG]), 0);
    assert_eq!(machine.u64(ARG + 4), START_NS);
    assert_eq!(machine.u64(ARG + 12), 40);
    assert_eq!(machine.u32(ARG + 44), 0xaaaa_aaaa);
    assert_eq!(machine.call(0, VCPU_OP, &[4, 0, NOWHERE]), -14);
}

#[test]
fn an_area_is_first_in_the_callers_layout_and_then_in_that_of_shared_info() {
    let mut machine = Machine::ready(1);
    machine.is_64_bit = false;
    register(&mut machine, 5, 0, AREA);
    assert_eq!(machine.u64(AREA + 4), START_NS, "44 bytes");
    machine.now = at(START_NS + 9);
    machine.call(0, SCHED_OP, &[1, 0]);
    assert_eq!(machine.u64(AREA + 8), START_NS + 9, "48 bytes");
}

#[test]
fn address_0_takes_an_area_back() {
    let mut machine = Machine::ready(1);
    register(&mut machine, 5, 0, AREA);
    machine.put(AREA, &[0xaa; 48]);
    assert_eq!(register(&mut machine, 5, 0, 0), 0);
    machine.call(0, SCHED_OP, &[1, 0]);
    assert_eq!(machine.bytes::<48>(AREA), [0xaa; 48]);
    assert_eq!(machine.bytes::<48>(0), [0; 48]);
}

#[test]
fn an_area_that_crosses_into_a_page_elsewhere_is_written_on_both() {
    let mut machine = Machine::ready(1);
    // Linear 8 MiB and the page after it are at 0x5000 and 0x9000.
    machine.put_u32(0x2000, &[0x00e7, 0, 0x3003]);
    machine.put_u32(0x3000, &[0x5003, 0x9003]);
    machine.paging = paged(0x2000);
    assert_eq!(register(&mut machine, 5, 0, 0x80_0ff0), 0);
    machine.now = at(START_NS + 100);
    machine.call(0, SCHED_OP, &[1, 0]);
    assert_eq!(machine.u32(0x5ff0), 2);
    assert_eq!(machine.u64(0x5ff8), START_NS + 100);
    assert_eq!(machine.u64(0x9000), 100);
    assert_eq!(machine.bytes::<16>(0x6000), [0; 16], "not the page behind");
}

#[test]
fn an_address_that_leads_nowhere_is_no_error_and_is_looked_at_again() {
    let mut machine = Machine::ready(1);
    machine.put_u32(0x2000, &[0x00e7, 0, 0]);
    machine.paging = paged(0x2000);
    assert_eq!(register(&mut machine, 5, 0, 0x80_0000), 0);
    assert_eq!(register(&mut machine, 13, 0, 0x80_0100), 0);
    machine.put_u32(0x2008, &[0x3003]);
    machine.put_u32(0x3000, &[0x5003]);
    machine.call(0, SCHED_OP, &[0, 0]);
    assert_eq!(machine.u64(0x5008), START_NS);
    assert_ne!(machine.u32(0x5100), 0, "the time's version");
    machine.put_u32(0x3000, &[0x9003]);
    machine.call(0, SCHED_OP, &[1, 0]);
    assert_eq!(machine.u32(0x5000), 2, "where it was found, it stays");
    assert_eq!(machine.bytes::<48>(0x9000), [0; 48]);
}

/// 2-level paging with pages of 4 MiB, and a root.
fn paged(cr3: u64) -> PagingState {
    PagingState {
        cr0: 0x8000_0011,
        cr3,
        cr4: 0x10,
        efer: 0,
        rflags: 2,
        pkru: 0,
    }
}

#[test]
fn nothing_is_written_outside_ram() {
    for linear in [NOWHERE, RAM_BYTES - 8, u64::MAX - 3, u64::MAX] {
        let mut machine = Machine::ready(1);
        assert_eq!(register(&mut machine, 5, 0, linear), 0, "{linear:#x}");
        assert_eq!(register(&mut machine, 13, 0, linear), 0, "{linear:#x}");
        machine.call(0, SCHED_OP, &[1, 0]);
        machine.enter(0);
    }
    let mut machine = Machine::ready(1);
    assert_eq!(machine.call(0, VCPU_OP, &[5, 0, NOWHERE]), -14);
    assert_eq!(machine.call(0, VCPU_OP, &[13, 0, NOWHERE]), -14);
}

#[test]
fn an_area_of_a_32_bit_caller_has_a_32_bit_address() {
    let mut machine = Machine::ready(1);
    machine.is_64_bit = false;
    assert_eq!(register(&mut machine, 5, 0, 1 << 32 | AREA), -14);
    assert_eq!(register(&mut machine, 13, 0, 1 << 32 | AREA), -14);
}

#[test]
fn the_time_area_is_a_copy_of_the_time_in_vcpu_info() {
    let mut machine = Machine::ready(1);
    assert_eq!(register(&mut machine, 13, 0, AREA), 0);
    let time: [u8; 32] = machine.bytes(SHARED_INFO + 32);
    assert_eq!(machine.bytes::<32>(AREA), time);
    assert_eq!(machine.u32(AREA) % 2, 0, "an even version");
    machine.enter(0);
    assert_eq!(machine.bytes::<32>(AREA), machine.bytes(SHARED_INFO + 32));
    assert_ne!(machine.bytes::<32>(AREA), time, "another version");
}

#[test]
fn vm_assist_5_marks_the_area_while_it_is_written() {
    let mut machine = Machine::ready(1);
    register(&mut machine, 5, 0, AREA);
    assert_eq!(machine.call(0, VM_ASSIST, &[0, 5]), 0);
    machine.now = at(START_NS + 100);
    machine.call(0, SCHED_OP, &[1, 0]);
    let blocked = (2, START_NS + 100, [100, 0, 0, 0]);
    assert_eq!(runstate(&machine, AREA), blocked, "and clears the mark");
    assert_eq!(machine.u64(AREA + 8) & UPDATING, 0);
    assert_eq!(machine.call(0, VM_ASSIST, &[1, 5]), 0);
    assert_eq!(machine.call(0, VM_ASSIST, &[0, 4]), -22);
    assert_eq!(machine.call(0, VM_ASSIST, &[2, 5]), -38);
}

#[test]
fn an_area_whose_page_is_taken_away_is_lost_without_harm() {
    let mut machine = Machine::ready(1);
    register(&mut machine, 5, 0, AREA);
    machine.put_u64(ARG, &[0x7ff0, AREA >> 12]);
    assert_eq!(machine.call(0, super::machine::MEMORY_OP, &[15, ARG]), 0);
    assert!(machine.memory.read(Gpa(AREA), &mut [0]).is_err());
    assert_eq!(machine.call(0, SCHED_OP, &[1, 0]), 0);
    machine.enter(0);
}
