//! `add_to_physmap`, its batch, and `remove_from_physmap`.

use pvh_abi::Gpa;
use pvh_hypercall::Width;
use pvh_memory::{GuestMemory, VecMemory};

use crate::machine::{
    ADD, ADD_BATCH, CURRENT, GMFN, GRANT_TABLE, HOLE, MAXIMUM_GPFN, Machine, PAGES, REMOVE, SELF,
    SHARED_INFO,
};

const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const ESRCH: i64 = -3;
const ENOMEM: i64 = -12;
const EACCES: i64 = -13;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;

fn pages(machine: &Machine) -> u64 {
    machine.ops.pages()
}

#[test]
fn shared_info_in_ram_frees_the_page_that_was_there() {
    let mut machine = Machine::new();
    machine.put_byte(0x20, 7);
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(machine.shared_info_gfn(), Some(0x20));
    assert_eq!(machine.byte(0x20), 0, "the old content is gone");
    assert_eq!(pages(&machine), PAGES - 1);
    assert_eq!(
        machine.ask(CURRENT, SELF),
        i64::try_from(PAGES - 1).unwrap()
    );
}

#[test]
fn shared_info_in_a_hole_gets_a_page_and_frees_none() {
    let mut machine = Machine::new();
    assert!(!machine.has_page(HOLE));
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    assert_eq!(machine.shared_info_gfn(), Some(HOLE));
    assert!(machine.has_page(HOLE));
    assert_eq!(pages(&machine), PAGES);
    assert_eq!(machine.ask(MAXIMUM_GPFN, SELF), 0xF_0000);
}

#[test]
fn shared_info_moves_with_its_contents_and_leaves_a_hole() {
    let mut machine = Machine::new();
    for (before, gpfn) in [
        (None, 0x20),
        (Some(0x20), HOLE),
        (Some(HOLE), HOLE + 5),
        (Some(HOLE + 5), 0x21),
    ] {
        assert_eq!(machine.add(SHARED_INFO, 0, gpfn), 0);
        assert!(before.is_none_or(|gfn| !machine.has_page(gfn)), "{gpfn:#x}");
        assert_eq!(machine.byte(gpfn), u8::from(before.is_some()) * 9);
        machine.put_byte(gpfn, 9);
    }
    // Two pages of RAM are freed, and the first of them is a hole now.
    assert_eq!(pages(&machine), PAGES - 2);
    assert!(!machine.has_page(0x20));
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(pages(&machine), PAGES - 2);
    assert_eq!(machine.byte(0x20), 9);
}

#[test]
fn shared_info_at_its_own_frame_again_changes_nothing() {
    let mut machine = Machine::new();
    for gpfn in [0x20, HOLE] {
        assert_eq!(machine.add(SHARED_INFO, 0, gpfn), 0);
        machine.put_byte(gpfn, 9);
        let before = pages(&machine);
        assert_eq!(machine.add(SHARED_INFO, 0, gpfn), 0);
        assert_eq!(
            (machine.shared_info_gfn(), machine.byte(gpfn)),
            (Some(gpfn), 9)
        );
        assert_eq!(pages(&machine), before);
    }
}

#[test]
fn there_is_one_shared_info_and_no_space_above_5() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 1, 0x20), EINVAL);
    for space in [6, 7, u32::MAX] {
        assert_eq!(machine.add(space, 0, 0x20), EINVAL);
    }
    assert_eq!(machine.add(SHARED_INFO, 0, u64::MAX), EINVAL);
    assert_eq!(machine.add(SHARED_INFO, 0, 1 << 52), EINVAL);
    assert_eq!((machine.shared_info_gfn(), pages(&machine)), (None, PAGES));
}

#[test]
fn other_domains_and_device_memory_are_refused() {
    let mut machine = Machine::new();
    for (domain, space, want) in [
        (SELF, 5, EACCES),
        (0, 5, EACCES),
        (7, 5, ESRCH),
        (0, SHARED_INFO, EACCES),
        (7, SHARED_INFO, ESRCH),
        (0x7FF1, SHARED_INFO, ESRCH),
        (5, SHARED_INFO, 0),
    ] {
        assert_eq!(
            machine.add_for(domain, space, 0, 0x20),
            want,
            "{domain} {space}"
        );
    }
}

#[test]
fn grant_frames_come_highest_first_and_grow_the_table_once() {
    let mut machine = Machine::new();
    for index in (0..4).rev() {
        assert_eq!(machine.add(GRANT_TABLE, index, HOLE + index), 0);
    }
    assert_eq!(machine.grant_gfns(), [HOLE, HOLE + 1, HOLE + 2, HOLE + 3]);
    assert_eq!(pages(&machine), PAGES);
    assert_eq!(machine.add(GRANT_TABLE, 4, 0x20), EINVAL);
    assert_eq!(machine.add(GRANT_TABLE, 1 << 31, 0x20), EINVAL);
    assert_eq!(machine.add(GRANT_TABLE, 0xFFFF_FFFF, 0x20), EINVAL);
    assert_eq!(machine.byte(0x20), 0);
    assert_eq!(pages(&machine), PAGES, "a refused frame has freed nothing");
}

#[test]
fn a_grant_frame_s_index_has_32_bits() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(GRANT_TABLE, 7 << 32 | 1, 0x20), 0);
    assert_eq!(machine.grant_gfns(), [u64::MAX, 0x20]);
}

#[test]
fn grant_frames_move_with_their_contents_and_leave_holes() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x20), 0);
    assert_eq!(pages(&machine), PAGES - 1);
    machine.put_byte(0x20, 9);
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x20), 0);
    assert_eq!((machine.byte(0x20), pages(&machine)), (9, PAGES - 1));
    assert_eq!(machine.add(GRANT_TABLE, 0, HOLE), 0);
    assert_eq!(machine.byte(HOLE), 9);
    assert!(!machine.has_page(0x20));
    assert_eq!(machine.grant_gfns(), [HOLE]);
}

#[test]
fn a_shared_page_put_where_another_is_takes_its_place() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    machine.put_byte(HOLE, 1);
    assert_eq!(machine.add(GRANT_TABLE, 0, HOLE), 0);
    assert_eq!(
        (machine.shared_info_gfn(), machine.grant_gfns()),
        (None, vec![HOLE])
    );
    machine.put_byte(HOLE, 2);
    assert_eq!(machine.add(GRANT_TABLE, 1, HOLE), 0);
    assert_eq!(machine.grant_gfns(), [u64::MAX, HOLE]);
    machine.put_byte(HOLE, 3);
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    assert_eq!(machine.grant_gfns(), [u64::MAX, u64::MAX]);
    // What each held has come along.
    assert_eq!(machine.byte(HOLE), 1);
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x20), 0);
    assert_eq!(machine.add(GRANT_TABLE, 1, 0x21), 0);
    assert_eq!((machine.byte(0x20), machine.byte(0x21)), (2, 3));
}

#[test]
fn a_page_of_ram_moves_over_another_and_leaves_a_hole() {
    let mut machine = Machine::new();
    machine.put_byte(0x20, 9);
    assert_eq!(machine.add(GMFN, 0x20, 0x30), 0);
    assert!(!machine.has_page(0x20));
    assert_eq!((machine.byte(0x30), pages(&machine)), (9, PAGES - 1));
    assert_eq!(machine.add(GMFN, 0x30, HOLE), 0);
    assert_eq!((machine.byte(HOLE), pages(&machine)), (9, PAGES - 1));
    assert_eq!(machine.add(GMFN, HOLE, HOLE), 0);
    assert_eq!(machine.add(GMFN, HOLE, 0x20), 0);
    assert_eq!((machine.byte(0x20), machine.has_page(HOLE)), (9, false));
    assert_eq!(
        machine.add(GMFN, HOLE, 0x20),
        EINVAL,
        "a hole does not move"
    );
    assert_eq!(machine.add(GMFN, u64::MAX - 1, 0x20), EINVAL);
    assert_eq!(machine.byte(0x20), 9);
}

#[test]
fn shared_pages_move_as_pages_of_the_domain_too() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    assert_eq!(machine.add(GRANT_TABLE, 0, HOLE + 1), 0);
    assert_eq!(machine.add(GMFN, HOLE, HOLE + 2), 0);
    assert_eq!(machine.add(GMFN, HOLE + 1, HOLE), 0);
    assert_eq!(
        (machine.shared_info_gfn(), machine.grant_gfns()),
        (Some(HOLE + 2), vec![HOLE])
    );
    assert!(!machine.has_page(HOLE + 1));
}

#[test]
fn holes_beyond_the_memory_s_bound_are_enomem() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(6, 3, &[HOLE]), 1);
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE + 8), ENOMEM);
    assert_eq!(machine.add(GRANT_TABLE, 0, HOLE + 8), ENOMEM);
    assert_eq!(machine.add(GMFN, 0x20, HOLE + 8), ENOMEM);
    assert_eq!(
        (machine.shared_info_gfn(), machine.has_page(0x20)),
        (None, true)
    );
    assert_eq!(machine.remove(HOLE), 0);
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE + 8), 0);
}

#[test]
fn a_removed_page_leaves_a_hole_and_counts_on() {
    let mut machine = Machine::new();
    assert_eq!(machine.remove(0x20), 0);
    assert!(!machine.has_page(0x20));
    assert_eq!(pages(&machine), PAGES);
    for gpfn in [0x20, HOLE, 1 << 51, u64::MAX] {
        assert_eq!(machine.remove(gpfn), ENOENT);
    }
}

#[test]
fn pages_of_other_domains_are_not_removed() {
    let mut machine = Machine::new();
    for (domain, want) in [(0, EACCES), (7, ESRCH), (5, 0)] {
        let argument = [domain, 0x20_u64].map(u64::to_le_bytes).concat();
        assert_eq!(machine.call(REMOVE, &argument), want, "domain {domain}");
    }
}

#[test]
fn removed_shared_pages_keep_their_contents() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x20), 0);
    machine.put_byte(HOLE, 1);
    machine.put_byte(0x20, 2);
    assert_eq!((machine.remove(HOLE), machine.remove(0x20)), (0, 0));
    assert_eq!(
        (machine.shared_info_gfn(), machine.grant_gfns()),
        (None, vec![u64::MAX])
    );
    assert!(!machine.has_page(HOLE) && !machine.has_page(0x20));
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(machine.add(GRANT_TABLE, 0, HOLE), 0);
    assert_eq!((machine.byte(0x20), machine.byte(HOLE)), (1, 2));
}

#[test]
fn a_pointer_into_a_removed_page_is_efault() {
    let mut machine = Machine::new();
    // Zeros name domain 0, which is not the caller's to ask about.
    assert_eq!(machine.memory_op(Width::Native, CURRENT, 0x2_0000), EPERM);
    assert_eq!(machine.remove(0x20), 0);
    assert_eq!(machine.memory_op(Width::Native, CURRENT, 0x2_0000), EFAULT);
    assert_eq!(machine.memory_op(Width::Native, ADD, 0x1_FFF8), EFAULT);
    // The page that shared_info leaves is such a page too.
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(machine.memory_op(Width::Native, CURRENT, 0x2_0000), EPERM);
}

/// Makes a batch of two entries, and answers its result and theirs.
fn batch(machine: &mut Machine, head: [u16; 4], idxs: [u64; 2], gpfns: [u64; 2]) -> (i64, [u8; 8]) {
    machine
        .memory
        .write(Gpa(0x200), &idxs.map(u64::to_le_bytes).concat())
        .unwrap();
    machine
        .memory
        .write(Gpa(0x300), &gpfns.map(u64::to_le_bytes).concat())
        .unwrap();
    machine.memory.write(Gpa(0x400), &[0x55; 8]).unwrap();
    let lists = [0x200, 0x300, 0x400_u64].map(u64::to_le_bytes).concat();
    let argument = [head.map(u16::to_le_bytes).concat(), lists].concat();
    let result = machine.call(ADD_BATCH, &argument);
    let mut errors = [0; 8];
    machine.memory.read(Gpa(0x400), &mut errors).unwrap();
    (result, errors)
}

#[test]
fn a_batch_answers_for_each_page() {
    let mut machine = Machine::new();
    let grants = [SELF, 1, 2, 0];
    let (result, errors) = batch(&mut machine, grants, [1, 9], [HOLE, HOLE + 1]);
    assert_eq!((result, errors), (0, [0, 0, 0, 0, 0xEA, 0xFF, 0xFF, 0xFF]));
    assert_eq!(machine.grant_gfns(), [u64::MAX, HOLE]);
    let (result, errors) = batch(&mut machine, [SELF, 2, 1, 0], [0x20, 0x21], [0x30, 0x31]);
    assert_eq!((result, errors), (0, [0, 0, 0, 0, 0x55, 0x55, 0x55, 0x55]));
    assert!(!machine.has_page(0x20) && machine.has_page(0x21));
}

#[test]
fn foreign_pages_are_refused_page_by_page_and_domains_as_a_whole() {
    let mut machine = Machine::new();
    let eperm = [0xFF; 8];
    assert_eq!(
        batch(&mut machine, [SELF, 4, 2, 0], [1, 2], [0x20, 0x21]),
        (0, eperm)
    );
    let untouched = [0x55; 8];
    for (head, want) in [
        ([7, 1, 2, 0], ESRCH),
        ([0, 1, 2, 0], EACCES),
        ([SELF, 5, 2, 0], EACCES),
        ([SELF, 3, 2, 0], -95),
    ] {
        assert_eq!(
            batch(&mut machine, head, [0, 1], [0x20, 0x21]),
            (want, untouched)
        );
    }
    assert_eq!(pages(&machine), PAGES);
}

#[test]
fn without_pages_for_holes_ram_frames_still_serve() {
    let memory = VecMemory::zeroed(&[(Gpa(0), 0x80_0000)]).unwrap();
    let mut machine = Machine::with_memory(memory);
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), ENOMEM);
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(machine.add(SHARED_INFO, 0, 0x21), 0);
    assert!(!machine.has_page(0x20));
}
