//! `set_timer_op`, `vm_assist`, and calls that a PVH domain does not have.

use pvh_domain::Origin;
use pvh_memory::LinearMemory;

use super::machine::{ARG, MULTICALL, Machine, NOWHERE, POLICY, SELF, VM_ASSIST, XEN_VERSION};

#[test]
fn a_call_that_a_pvh_domain_does_not_have_answers_the_error_of_its_number() {
    let mut machine = Machine::ready(1);
    for (number, want) in [
        (0, -38),
        (7, -13),
        (19, -38),
        (23, -38),
        (33, -38),
        (35, -13),
        (36, -13),
        (40, -95),
        (41, -7),
        (42, -1),
        (49, -95),
        (99, -38),
        (u64::MAX, -38),
    ] {
        let result = machine.call(0, number, &[0, NOWHERE, NOWHERE]);
        assert_eq!(result, want, "hypercall {number}");
    }
}

#[test]
fn every_physdev_op_is_enosys() {
    let mut machine = Machine::ready(1);
    for op in 0..40 {
        assert_eq!(machine.call(0, 33, &[op, ARG]), -38, "{op}");
    }
}

#[test]
fn a_multicall_runs_every_entry_whatever_the_others_answer() {
    let mut machine = Machine::ready(1);
    let entries: [(u64, [u64; 3], i64); 4] = [
        (XEN_VERSION, [0, 0, 0], 0x4_0011),
        (99, [0; 3], -38),
        (MULTICALL, [0; 3], -22),
        (VM_ASSIST, [0, 4, 0], -22),
    ];
    for (index, (op, args, _)) in (0_u64..).zip(entries) {
        machine.put_u64(ARG + 64 * index, &[op, 0x55]);
        machine.put_u64(ARG + 64 * index + 16, &args);
    }
    assert_eq!(machine.call(0, MULTICALL, &[ARG, 4]), 0);
    for (index, (op, _, want)) in (0_u64..).zip(entries) {
        let result = machine.u64(ARG + 64 * index + 8).cast_signed();
        assert_eq!(result, want, "hypercall {op}");
    }
    assert_eq!(machine.call(0, MULTICALL, &[NOWHERE, 1]), -14);
    assert_eq!(machine.call(0, MULTICALL, &[NOWHERE, 0]), 0);
}

#[test]
fn a_32_bit_multicall_has_entries_of_32_bytes() {
    let mut machine = Machine::ready(1);
    machine.is_64_bit = false;
    machine.put_u32(ARG, &[17, 0x55, 0, 0, 0, 0, 0, 0]);
    machine.put_u32(ARG + 32, &[99, 0x55, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.call(0, MULTICALL, &[ARG, 2]), 0);
    assert_eq!(machine.u32(ARG + 4), 0x4_0011);
    assert_eq!(machine.u32(ARG + 36), 0xffff_ffda);
}

#[test]
fn memory_queries_answer_from_the_configuration() {
    let mut machine = Machine::ready(1);
    machine.put_u64(ARG, &[SELF]);
    let memory_op = super::machine::MEMORY_OP;
    assert_eq!(machine.call(0, memory_op, &[2, 0]), 0x10_0000);
    assert_eq!(machine.call(0, memory_op, &[4, ARG]), 512);
    assert_eq!(machine.call(0, memory_op, &[14, ARG]), 0xf_efff);
    machine.put_u64(ARG, &[9, ARG + 0x100]);
    assert_eq!(machine.call(0, memory_op, &[9, ARG]), 0);
    assert_eq!(machine.u32(ARG), 1, "one entry");
    assert_eq!(machine.u64(ARG + 0x108), super::machine::RAM_BYTES);
    for op in [10, 12, 99 & 0x3f] {
        assert_eq!(machine.call(0, memory_op, &[op, ARG]), -38, "{op}");
    }
}

#[test]
fn pages_are_given_back_and_taken_again_extent_by_extent() {
    let mut machine = Machine::ready(1);
    let memory_op = super::machine::MEMORY_OP;
    machine.put_u64(ARG + 0x100, &[0x40, 0x41, 0x42]);
    // decrease_reservation, populate_physmap, and increase_reservation, which only counts.
    for (op, pages) in [(1, 509), (6, 512), (0, 512)] {
        machine.put_u64(ARG, &[ARG + 0x100, 3, 0, SELF]);
        assert_eq!(machine.call(0, memory_op, &[op, ARG]), 3, "{op}");
        let is_ram =
            pvh_memory::GuestMemory::is_ram(&machine.memory, pvh_abi::Gpa(0x4_0000), 0x3000);
        assert_eq!(is_ram, pages == 512, "{op}");
    }
}

#[test]
fn whose_layout_it_is_is_judged_before_anything_else_of_add_to_physmap() {
    let mut machine = Machine::ready(1);
    let memory_op = super::machine::MEMORY_OP;
    for (domid, space, want) in [
        (0_u64, 0_u64, -13),
        (77, 0, -3),
        (0x7ff0, 5, -13),
        (0x7ff0, 9, -22),
    ] {
        machine.put_u64(ARG, &[domid | space << 32, 1, u64::MAX]);
        assert_eq!(machine.call(0, memory_op, &[7, ARG]), want, "{domid}");
        // One entry, whose lists lead nowhere.
        let head = domid | space << 16 | 1 << 32;
        machine.put_u64(ARG, &[head, NOWHERE, NOWHERE, NOWHERE]);
        let batch = machine.call(0, memory_op, &[23, ARG]);
        let judged = if want == -22 { -14 } else { want };
        assert_eq!(batch, judged, "{domid} {space}");
    }
}

#[test]
fn the_debug_text_of_an_origin_omits_guest_memory() {
    let machine = Machine::ready(1);
    let origin = Origin {
        vcpu: 3,
        io: &LinearMemory::new(&machine.memory, &machine.paging, &POLICY),
        takes_interrupts: false,
        now: machine.now,
    };
    let text = format!("{origin:?}");
    assert!(
        text.starts_with("Origin { vcpu: 3, takes_interrupts: false, now: Now"),
        "{text}"
    );
}
