//! `grant_table_op`.

use super::machine::{ARG, GRANT_TABLE_OP, MEMORY_OP, Machine, NOWHERE, SELF};

fn op(machine: &mut Machine, op: u64, count: u64) -> i64 {
    machine.call(0, GRANT_TABLE_OP, &[op, ARG, count])
}

/// Maps a frame of the table.
fn map_frame(machine: &mut Machine, index: u64, gfn: u64) {
    machine.put_u64(ARG, &[SELF | 1 << 32, index, gfn]);
    assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), 0);
}

#[test]
fn a_table_has_1_frame_of_64_and_grows_by_mapping() {
    let mut machine = Machine::ready(1);
    for (frames, index) in [(1, 3), (4, 0), (4, 63), (64, 0)] {
        machine.put_u32(ARG, &[0x7ff0, 0, 0, 0xffff]);
        assert_eq!(op(&mut machine, 6, 1), 0);
        assert_eq!(machine.u32(ARG + 4), frames);
        assert_eq!(machine.u32(ARG + 8), 64);
        assert_eq!(machine.bytes::<2>(ARG + 12), [0, 0]);
        map_frame(&mut machine, index, 0x30 + index);
    }
    machine.put_u64(ARG, &[SELF | 1 << 32, 64, 0x30]);
    assert_eq!(machine.call(0, MEMORY_OP, &[7, ARG]), -22);
}

#[test]
fn the_rings_are_granted_to_domain_0_from_the_beginning() {
    let mut machine = Machine::ready(1);
    map_frame(&mut machine, 0, 0x30);
    assert_eq!(machine.u32(0x3_0000), 1, "permitted, to domain 0");
    assert_eq!(machine.u32(0x3_0004), 0xf_efff, "the console's ring");
    assert_eq!(machine.u32(0x3_000c), 0xf_effc, "the store's");
}

#[test]
fn setup_table_lists_frames_in_words_of_the_caller() {
    let mut machine = Machine::ready(1);
    map_frame(&mut machine, 1, 0x31);
    machine.put_u32(ARG, &[0x7ff0, 2, 0xffff, 0]);
    machine.put_u64(ARG + 16, &[ARG + 0x100]);
    assert_eq!(op(&mut machine, 2, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 8), [0, 0]);
    assert_eq!(machine.u64(ARG + 0x108), 0x31);
    machine.put_u32(ARG, &[0x7ff0, 65, 0xffff, 0]);
    assert_eq!(op(&mut machine, 2, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 8), [0xff, 0xff], "general error");
    machine.put_u32(ARG, &[0x7ff0, 1, 0, 0]);
    machine.put_u64(ARG + 16, &[NOWHERE]);
    assert_eq!(op(&mut machine, 2, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 8), [0xfb, 0xff], "-5");
    assert_eq!(op(&mut machine, 2, 2), -22, "one at a time");
}

#[test]
fn version_1_is_in_use_and_version_2_is_enosys() {
    let mut machine = Machine::ready(1);
    for (version, want) in [(1, 0), (2, -38), (3, -22)] {
        machine.put_u32(ARG, &[version]);
        assert_eq!(op(&mut machine, 8, 1), want);
    }
    machine.put_u32(ARG, &[0x7ff0, 0]);
    assert_eq!(op(&mut machine, 10, 1), 0);
    assert_eq!(machine.u32(ARG + 4), 1);
    machine.put_u32(ARG, &[77, 0]);
    assert_eq!(op(&mut machine, 10, 1), -3);
}

#[test]
fn map_answers_no_space_and_unmap_bad_handle() {
    let mut machine = Machine::ready(1);
    machine.put_u64(ARG, &[0x5000, 2, 5]);
    assert_eq!(op(&mut machine, 0, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 18), [0xf3, 0xff], "no space");
    assert_eq!(op(&mut machine, 1, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 20), [0xfc, 0xff], "bad handle");
}

#[test]
fn own_pages_are_copied_and_statuses_written() {
    let mut machine = Machine::ready(1);
    machine.put(0x5010, b"copied");
    // source: frame 5 at 0x10; destination: frame 6 at 0x20; 6 bytes.
    machine.put_u64(ARG, &[5, SELF | 0x10 << 16, 6, SELF | 0x20 << 16, 6]);
    assert_eq!(op(&mut machine, 5, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 36), [0, 0]);
    assert_eq!(&machine.bytes::<6>(0x6020), b"copied");
    machine.put_u64(ARG, &[0x2_0000, SELF, 6, SELF, 6]);
    assert_eq!(op(&mut machine, 5, 1), 0);
    assert_eq!(machine.bytes::<2>(ARG + 36), [0xf7, 0xff], "bad page");
}

#[test]
fn entries_are_swapped() {
    let mut machine = Machine::ready(1);
    map_frame(&mut machine, 0, 0x30);
    machine.put_u32(ARG, &[0, 9, 0xffff]);
    assert_eq!(op(&mut machine, 11, 1), 0);
    assert_eq!(machine.u32(0x3_0000 + 9 * 8 + 4), 0xf_efff);
    assert_eq!(machine.u64(0x3_0000), 0);
}

#[test]
fn a_pv_sub_op_is_enosys_and_an_unreadable_argument_efault() {
    let mut machine = Machine::ready(1);
    for number in [3, 4, 7, 9, 12] {
        assert_eq!(op(&mut machine, number, 1), -38, "{number}");
    }
    for number in [0, 1, 2, 5, 6, 8, 10, 11] {
        let args = [number, NOWHERE, 1];
        assert_eq!(machine.call(0, GRANT_TABLE_OP, &args), -14, "{number}");
        assert_eq!(op(&mut machine, number, 1 << 31), -22, "{number}");
    }
}
