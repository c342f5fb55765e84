//! `xen_version`.

use super::machine::{ARG, Machine, NOWHERE, XEN_VERSION};

#[test]
fn the_version_is_4_17() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.call(0, XEN_VERSION, &[0, 0]), 0x4_0011);
}

#[test]
fn the_texts_are_those_of_a_xen_4_17() {
    let mut machine = Machine::new(1);
    for (op, want) in [
        (1, &b".7\0"[..]),
        (3, b"hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 \0"),
        (4, b"unavailable\0"),
        (9, b"<denied>\0"),
    ] {
        machine.put(ARG, &[0xaa; 1024]);
        assert_eq!(machine.call(0, XEN_VERSION, &[op, ARG]), 0);
        assert_eq!(&machine.bytes::<1024>(ARG)[..want.len()], want, "{op}");
        let denied = machine.call(0, XEN_VERSION, &[op, NOWHERE]);
        assert_eq!(denied, -14, "sub-operation {op}");
    }
}

#[test]
fn compile_info_has_four_texts() {
    let mut machine = Machine::new(1);
    machine.put(ARG, &[0xaa; 145]);
    assert_eq!(machine.call(0, XEN_VERSION, &[2, ARG]), 0);
    let info: [u8; 145] = machine.bytes(ARG);
    for (at, len) in [(0, 64), (64, 16), (80, 32), (112, 32)] {
        assert_ne!(info[at], 0);
        assert_eq!(info[at + len - 1], 0, "a NUL ends it");
    }
    assert_eq!(info[144], 0xaa);
}

#[test]
fn features_are_0_2_8_9_13_16_in_submap_0_and_einval_in_the_others() {
    let mut machine = Machine::new(1);
    machine.put_u32(ARG, &[0, 0]);
    assert_eq!(machine.call(0, XEN_VERSION, &[6, ARG]), 0);
    assert_eq!(machine.u32(ARG + 4), 0x1_2305);
    machine.put_u32(ARG, &[1, 0]);
    assert_eq!(machine.call(0, XEN_VERSION, &[6, ARG]), -22);
}

#[test]
fn the_handle_is_the_uuid_and_the_page_size_4096() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.call(0, XEN_VERSION, &[8, ARG]), 0);
    let uuid = [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    assert_eq!(machine.bytes::<8>(ARG), uuid);
    assert_eq!(machine.u64(ARG + 8), 0x2a00_0000_0000_0000);
    assert_eq!(machine.call(0, XEN_VERSION, &[7, 0]), 4096);
}

#[test]
fn a_call_a_domu_may_not_make_is_eperm_and_an_unknown_one_enosys() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.call(0, XEN_VERSION, &[10, ARG]), -1);
    assert_eq!(machine.call(0, XEN_VERSION, &[11, ARG]), -38);
}
