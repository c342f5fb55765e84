//! What one go of a call with frames does, and where the next one goes on.

use pvh_abi::Gpa;
use pvh_hypercall::{Budget, Call, Outcome, Width};
use pvh_memory::{Frames, GuestMemory};

use crate::machine::{
    ADD_BATCH, ARGUMENT, DECREASE, GMFN, GRANT_TABLE, HOLE, MAX_PAGES, Machine, PAGES, POPULATE,
    SELF, SHARED_INFO,
};

/// A call with one extent of 2^`order` frames.
fn extent(machine: &Machine, command: u64, order: u32, gfn: u64) -> Call {
    let argument = machine.reservation(SELF, order, 0, &[gfn]);
    machine.memory.write(Gpa(ARGUMENT), &argument).unwrap();
    Call::new(Width::Native, 12, [command, ARGUMENT, 0, 0, 0])
}

#[test]
fn an_extent_in_a_hole_takes_a_go_for_each_page() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(POPULATE, 3, &[HOLE]), 1);
    assert_eq!(machine.goes, 8);
    assert!((0..8).all(|index| machine.has_page(HOLE + index)));
    assert_eq!(machine.ops.pages(), PAGES + 8);
    machine.put_byte(HOLE + 3, 9);
    assert_eq!(machine.extents(DECREASE, 3, &[HOLE]), 1);
    assert_eq!(machine.goes, 8);
    assert!((0..8).all(|index| !machine.has_page(HOLE + index)));
    assert_eq!(machine.ops.pages(), PAGES);
    assert_eq!(machine.begun, None);
}

#[test]
fn a_large_extent_of_ram_takes_one_go() {
    let mut machine = Machine::new();
    for command in [DECREASE, POPULATE, POPULATE] {
        let before = machine.ops.pages();
        let room = MAX_PAGES - before;
        let result = machine.extents(command, 9, &[0x200]);
        let wanted = i64::from(command == DECREASE || room >= 512);
        assert_eq!((result, machine.goes), (wanted, 1));
    }
    assert_eq!(machine.extents(DECREASE, 9, &[0x200, 0x400, 0x600]), 3);
    assert_eq!(machine.goes, 2, "two of 2 MiB a go");
}

#[test]
fn an_extent_across_the_end_of_ram_changes_each_part_by_its_own_steps() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(DECREASE, 2, &[0x7FC]), 1);
    assert_eq!(machine.extents(POPULATE, 3, &[0x7FC]), 1);
    assert_eq!(machine.goes, 4, "the RAM with the first page of the hole");
    assert_eq!(machine.extents(DECREASE, 3, &[0x7FC]), 1);
    assert_eq!(machine.ops.pages(), PAGES - 4);
}

#[test]
fn covered_pages_take_no_memory_slot() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(POPULATE, 2, &[HOLE]), 1);
    machine.put_byte(HOLE + 1, 9);
    // No page outside RAM is left for others: all 8 are here.
    assert_eq!(machine.extents(POPULATE, 2, &[HOLE + 4]), 1);
    assert_eq!(machine.extents(POPULATE, 1, &[HOLE; 4]), 4);
    assert_eq!(
        (machine.byte(HOLE + 1), machine.ops.pages()),
        (0, PAGES + 16)
    );
}

#[test]
fn an_extent_that_would_not_fit_is_refused_before_anything_is_done() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(POPULATE, 0, &[HOLE + 9, HOLE + 11]), 2);
    assert_eq!(machine.extents(POPULATE, 3, &[HOLE]), 0);
    assert!((0..8).all(|index| !machine.has_page(HOLE + index)));
    assert_eq!((machine.goes, machine.ops.pages()), (1, PAGES + 2));
}

#[test]
fn pages_that_another_vcpu_takes_meanwhile_end_the_extent_there() {
    let mut machine = Machine::new();
    let call = extent(&machine, POPULATE, 3, HOLE);
    assert_eq!(machine.go(call, Budget::GO), Outcome::Again(call));
    machine
        .memory
        .add_frames(HOLE + 0x100..HOLE + 0x107)
        .unwrap();
    assert_eq!(machine.go(call, Budget::GO), Outcome::Return(0));
    assert!(machine.has_page(HOLE) && !machine.has_page(HOLE + 1));
    assert_eq!(machine.ops.pages(), PAGES + 1, "what is there counts");
}

#[test]
fn a_list_that_is_changed_meanwhile_is_another_extent() {
    let mut machine = Machine::new();
    let call = extent(&machine, POPULATE, 2, HOLE);
    assert_eq!(machine.go(call, Budget::GO), Outcome::Again(call));
    assert_eq!(extent(&machine, POPULATE, 0, HOLE + 0x10), call);
    assert_eq!(machine.go(call, Budget::GO), Outcome::Return(1));
    assert!(machine.has_page(HOLE + 0x10) && !machine.has_page(HOLE + 1));
    assert_eq!(machine.begun, None);
    // The first one again, from its beginning: one page is covered, three are added.
    let call = extent(&machine, POPULATE, 2, HOLE);
    machine.put_byte(HOLE, 9);
    for _ in 0..3 {
        assert_eq!(machine.go(call, Budget::GO), Outcome::Again(call));
    }
    assert_eq!(machine.go(call, Budget::GO), Outcome::Return(1));
    assert_eq!((machine.byte(HOLE), machine.ops.pages()), (0, PAGES + 6));
}

#[test]
fn shared_pages_in_an_extent_are_taken_back_a_few_frames_at_a_time() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, 0x2FF), 0);
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x201), 0);
    assert_eq!(machine.extents(DECREASE, 8, &[0x200]), 1);
    assert!(machine.goes > 1, "{}", machine.goes);
    assert_eq!(
        (machine.shared_info_gfn(), machine.grant_gfns()),
        (None, vec![u64::MAX])
    );
    assert_eq!(machine.ops.pages(), PAGES - 256);
}

#[test]
fn a_batch_of_pages_moved_into_a_hole_stops_after_each() {
    let mut machine = Machine::new();
    let lists: Vec<u8> = [0x20, 0x21, 0x22, HOLE, HOLE + 1, HOLE + 2]
        .iter()
        .flat_map(|gfn: &u64| gfn.to_le_bytes())
        .collect();
    machine.memory.write(Gpa(0x3000), &lists).unwrap();
    let mut batch = [SELF, u16::try_from(GMFN).unwrap(), 3, 0]
        .map(u16::to_le_bytes)
        .concat();
    for address in [0x3000_u64, 0x3018, 0x4000] {
        batch.extend(address.to_le_bytes());
    }
    machine.put_byte(0x21, 9);
    assert_eq!(machine.call(ADD_BATCH, &batch), 0);
    assert_eq!((machine.goes, machine.byte(HOLE + 1)), (3, 9));
    assert!(!machine.has_page(0x21) && machine.has_page(HOLE + 2));
}
