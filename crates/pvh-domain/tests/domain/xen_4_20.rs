//! What Xen 4.20 answers, where 4.17 answers something else. The numbers are those that a guest
//! read on Xen 4.20.5.

use pvh_domain::Config;
use pvh_hypercall::XenVersion;

use super::machine::{ARG, Machine, NOWHERE, VCPU_OP, XEN_VERSION, config};

const MEMORY_OP: u64 = 12;
const HVM_OP: u64 = 34;
const PHYSDEV_OP: u64 = 33;
const REGISTER_VCPU_INFO: u64 = 10;
const RUNSTATE_AREA: u64 = 14;
const TIME_AREA: u64 = 15;
const AREA: u64 = 0x6000;

fn machine(vcpus: u32, xen: XenVersion) -> Machine {
    Machine::with(Config {
        xen,
        ..config(vcpus)
    })
}

fn both() -> [Machine; 2] {
    XenVersion::ALL.map(|xen| machine(2, xen))
}

/// Makes a call on each version.
fn answers(number: u64, args: &[u64]) -> [i64; 2] {
    both().map(|mut machine| machine.call(0, number, args))
}

#[test]
fn each_call_answers_as_the_version_does() {
    for (what, number, args, want) in [
        ("version", XEN_VERSION, [0, 0], [0x4_0011, 0x4_0014]),
        ("extraversion2", XEN_VERSION, [11, 0], [-38, 6]),
        ("capabilities2", XEN_VERSION, [12, 0], [-38, 61]),
        ("changeset2", XEN_VERSION, [13, 0], [-38, 0]),
        ("commandline2", XEN_VERSION, [14, 0], [-38, -1]),
        ("version op 15", XEN_VERSION, [15, 0], [-38, -38]),
        (
            "extraversion2, fault",
            XEN_VERSION,
            [11, NOWHERE],
            [-38, -14],
        ),
        ("machine map", MEMORY_OP, [10, NOWHERE], [-38, -1]),
        ("acquire_resource", MEMORY_OP, [28, NOWHERE], [-13, -14]),
        ("map_pirq", PHYSDEV_OP, [13, NOWHERE], [-38, -14]),
        ("unmap_pirq", PHYSDEV_OP, [14, NOWHERE], [-38, -14]),
        ("map_pirq, readable", PHYSDEV_OP, [13, ARG], [-38, -1]),
        ("physdev op 15", PHYSDEV_OP, [15, NOWHERE], [-38, -38]),
    ] {
        assert_eq!(answers(number, &args), want, "{what}");
    }
    for op in [RUNSTATE_AREA, TIME_AREA] {
        assert_eq!(answers(VCPU_OP, &[op, 0, NOWHERE]), [-38, -14], "{op}");
    }
    assert_eq!(answers(VCPU_OP, &[16, 0, NOWHERE]), [-38, -38]);
}

#[test]
fn features_18_to_20_and_the_platform_parameters_differ() {
    let found = both().map(|mut machine| {
        machine.put_u32(ARG, &[0, 0]);
        assert_eq!(machine.call(0, XEN_VERSION, &[6, ARG]), 0);
        let features = machine.u32(ARG + 4);
        machine.put(ARG, &[0xee; 8]);
        assert_eq!(machine.call(0, XEN_VERSION, &[5, ARG]), 0);
        (features, machine.u64(ARG))
    });
    assert_eq!(found, [(0x1_2305, 0xffff_8000_0000_0000), (0x1d_2305, 0)]);
}

#[test]
fn a_long_text_goes_after_its_length_and_needs_its_room() {
    let mut machine = machine(1, XenVersion::V4_20);
    machine.put(ARG, &[0xee; 16]);
    machine.put_u32(ARG, &[5]);
    assert_eq!(machine.call(0, XEN_VERSION, &[11, ARG]), -105);
    assert_eq!(machine.bytes::<4>(ARG + 4), [0xee; 4]);
    machine.put_u32(ARG, &[6]);
    assert_eq!(machine.call(0, XEN_VERSION, &[11, ARG]), 6);
    assert_eq!(&machine.bytes::<7>(ARG + 4), b".5-pre\xee");
}

#[test]
fn a_trace_of_3_more_bytes_and_the_parameter_altp2m_differ() {
    let found = both().map(|mut machine| {
        machine.put(ARG, &[0; 32]);
        machine.put(ARG, &[1, 0, 3, 0]);
        let trace = machine.call(0, HVM_OP, &[11, ARG]);
        machine.put(ARG, &[0; 16]);
        machine.put_u32(ARG, &[0x7ff0, 35]);
        (trace, machine.call(0, HVM_OP, &[0, ARG]))
    });
    assert_eq!(found, [(0, -1), (-22, -17)]);
}

/// Frame 0x700 of the model is a hole.
#[test]
fn a_moved_hole_differs() {
    let found = both().map(|mut machine| {
        machine.put(ARG, &[0; 32]);
        machine.put_u32(ARG, &[0x7ff0, 2, 0x700, 0, 0x60, 0]);
        machine.call(0, MEMORY_OP, &[7, ARG])
    });
    assert_eq!(found, [-22, -13]);
}

fn register_info(machine: &mut Machine, vcpu: u64, frame: u32, offset: u32) -> i64 {
    machine.put_u32(ARG, &[frame, 0, offset, 0]);
    machine.call(0, VCPU_OP, &[REGISTER_VCPU_INFO, vcpu, ARG])
}

#[test]
fn a_vcpu_info_is_registered_by_the_rules_of_the_version() {
    let found = both().map(|mut machine| {
        let mut register = |offset| register_info(&mut machine, 1, 6, offset);
        [4096, 4040, 2, 128, 256, 4096].map(&mut register)
    });
    assert_eq!(found[0], [-6, -6, -6, 0, -22, -6]);
    assert_eq!(found[1], [-22, -6, -6, 0, -16, -22]);
}

#[test]
fn vcpu_32_is_initialised_without_a_vcpu_info() {
    let found = XenVersion::ALL.map(|xen| {
        let mut machine = machine(33, xen);
        machine.call(0, VCPU_OP, &[0, 32, NOWHERE])
    });
    assert_eq!(found, [-22, -14], "EFAULT: only the context is missing");
}

fn register_area(machine: &mut Machine, op: u64, vcpu: u64, gpa: u64) -> i64 {
    machine.put(ARG, &gpa.to_le_bytes());
    machine.call(0, VCPU_OP, &[op, vcpu, ARG])
}

#[test]
fn a_physical_area_lies_in_a_page_of_ram_and_is_aligned() {
    let mut machine = machine(2, XenVersion::V4_20);
    machine.is_64_bit = true;
    for (op, bytes) in [(RUNSTATE_AREA, 48), (TIME_AREA, 32)] {
        for (gpa, want) in [
            (AREA + 4096 - bytes + 8, -6),
            (AREA + 2, -6),
            (0x70_0000, -22),
            (u64::MAX - 4095, -22),
            (AREA + 4096 - bytes, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(
                register_area(&mut machine, op, 0, gpa),
                want,
                "{op} {gpa:#x}"
            );
        }
    }
}

#[test]
fn a_physical_runstate_area_is_written_for_the_caller_at_once() {
    let mut machine = machine(2, XenVersion::V4_20);
    machine.is_64_bit = true;
    machine.put(AREA, &[0xee; 48]);
    assert_eq!(register_area(&mut machine, RUNSTATE_AREA, 1, AREA), 0);
    assert_eq!(
        machine.bytes::<48>(AREA),
        [0xee; 48],
        "another vCPU's is not"
    );
    assert_eq!(register_area(&mut machine, RUNSTATE_AREA, 0, AREA), 0);
    assert_eq!(machine.u32(AREA), 0, "running");
    let since = machine.u64(AREA + 8);
    assert_eq!(since >> 63, 0, "no update flag is left");
}

#[test]
fn a_physical_time_area_begins_with_version_0() {
    let mut machine = machine(1, XenVersion::V4_20);
    machine.is_64_bit = true;
    machine.put(AREA, &[0xee; 32]);
    assert_eq!(register_area(&mut machine, TIME_AREA, 0, AREA), 0);
    assert_eq!(machine.u32(AREA), 0);
    assert_ne!(machine.bytes::<32>(AREA), [0xee; 32]);
}

#[test]
fn while_there_is_a_physical_area_the_linear_one_is_not_written() {
    const LINEAR: u64 = 0x7000;
    let mut machine = machine(1, XenVersion::V4_20);
    machine.is_64_bit = true;
    machine.put(ARG, &LINEAR.to_le_bytes());
    assert_eq!(machine.call(0, VCPU_OP, &[13, 0, ARG]), 0);
    assert_eq!(register_area(&mut machine, TIME_AREA, 0, AREA), 0);
    machine.put(LINEAR, &[0xee; 32]);
    machine.put(AREA, &[0xee; 32]);
    assert_eq!(register_info(&mut machine, 0, 8, 0), 0);
    assert_eq!(machine.bytes::<32>(LINEAR), [0xee; 32]);
    assert_ne!(machine.bytes::<32>(AREA), [0xee; 32]);
    assert_eq!(register_area(&mut machine, TIME_AREA, 0, u64::MAX), 0);
}
