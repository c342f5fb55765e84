//! The calls with extents: `increase_reservation`, `decrease_reservation`, `populate_physmap`.

use pvh_abi::Gpa;
use pvh_hypercall::Width;
use pvh_memory::GuestMemory;

use crate::machine::{
    CURRENT, DECREASE, GRANT_TABLE, HOLE, INCREASE, MAX_PAGES, MAXIMUM_GPFN, Machine, PAGES,
    POPULATE, SELF, SHARED_INFO,
};

#[test]
fn a_balloon_gives_pages_back_and_takes_them_again() {
    let mut machine = Machine::new();
    machine.put_byte(0x21, 9);
    assert_eq!(machine.extents(DECREASE, 0, &[0x20, 0x21, 0x22]), 3);
    assert_eq!(machine.ops.pages(), PAGES - 3);
    assert!([0x20, 0x21, 0x22].iter().all(|&gfn| !machine.has_page(gfn)));
    assert_eq!(machine.extents(POPULATE, 0, &[0x22, 0x21, 0x20]), 3);
    assert_eq!((machine.ops.pages(), machine.byte(0x21)), (PAGES, 0));
}

#[test]
fn an_extent_has_two_to_the_order_pages_and_up_to_512() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(DECREASE, 9, &[0x200, 0x400]), 2);
    assert_eq!(machine.ops.pages(), PAGES - 0x400);
    assert!(!machine.has_page(0x200) && !machine.has_page(0x5FF) && machine.has_page(0x600));
    assert_eq!(machine.extents(POPULATE, 9, &[0x200]), 1);
    assert_eq!(machine.extents(POPULATE, 3, &[0x400]), 1);
    assert!(machine.has_page(0x407) && !machine.has_page(0x408));
    assert_eq!(machine.ops.pages(), PAGES - 0x1F8);
    for command in [INCREASE, DECREASE, POPULATE] {
        for order in [10, 31, 32, 64, u32::MAX] {
            assert_eq!(machine.extents(command, order, &[0x400]), 0);
        }
    }
    assert_eq!(machine.ops.pages(), PAGES - 0x1F8);
}

#[test]
fn the_first_extent_that_fails_ends_the_call() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(DECREASE, 0, &[0x20, HOLE, 0x21]), 1);
    assert_eq!(machine.extents(DECREASE, 0, &[0x20, 0x21]), 0);
    assert!(machine.has_page(0x21));
    // Up to the hole, the pages of an extent are gone although it is not done.
    assert_eq!(machine.extents(DECREASE, 1, &[0x1F]), 0);
    assert!(!machine.has_page(0x1F));
    assert_eq!(machine.ops.pages(), PAGES - 2);
    for gfn in [u64::MAX, u64::MAX - 1, 1 << 52, 1 << 40] {
        assert_eq!(machine.extents(DECREASE, 0, &[gfn]), 0);
        assert_eq!(machine.extents(DECREASE, 9, &[gfn]), 0);
    }
}

#[test]
fn populate_stops_where_the_domain_may_have_no_more() {
    let mut machine = Machine::new();
    let room = MAX_PAGES - PAGES;
    assert_eq!(room, 16);
    assert_eq!(machine.extents(DECREASE, 0, &[0x20]), 1);
    assert_eq!(machine.extents(POPULATE, 3, &[0x20, 0x28]), 2);
    assert_eq!(machine.extents(POPULATE, 0, &[HOLE, HOLE + 1]), 1);
    assert_eq!(machine.ops.pages(), MAX_PAGES);
    assert!(machine.has_page(HOLE) && !machine.has_page(HOLE + 1));
}

#[test]
fn populate_in_a_hole_stops_where_the_memory_has_no_more() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(POPULATE, 0, &[HOLE, HOLE + 1]), 2);
    assert_eq!(machine.extents(POPULATE, 3, &[HOLE + 8]), 0);
    assert!(!machine.has_page(HOLE + 8));
    assert_eq!(machine.extents(POPULATE, 2, &[HOLE + 2, HOLE + 8]), 1);
    assert_eq!(machine.ops.pages(), PAGES + 6);
    assert_eq!(machine.ask(MAXIMUM_GPFN, SELF), 0xF_0005);
}

#[test]
fn populate_over_a_page_covers_it_and_counts_both() {
    let mut machine = Machine::new();
    machine.put_byte(0x20, 9);
    assert_eq!(machine.extents(POPULATE, 0, &[0x20]), 1);
    assert_eq!((machine.byte(0x20), machine.ops.pages()), (0, PAGES + 1));
    machine.put_byte(0x21, 9);
    machine.extents(DECREASE, 0, &[0x22]);
    assert_eq!(machine.extents(POPULATE, 2, &[0x20]), 1);
    assert_eq!((machine.byte(0x21), machine.ops.pages()), (0, PAGES + 4));
    assert!(machine.has_page(0x22));
}

#[test]
fn populate_over_a_shared_page_takes_that_back() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE), 0);
    machine.put_byte(HOLE, 9);
    assert_eq!(machine.extents(POPULATE, 0, &[HOLE]), 1);
    assert_eq!((machine.shared_info_gfn(), machine.byte(HOLE)), (None, 0));
    assert_eq!(machine.add(SHARED_INFO, 0, HOLE + 1), 0);
    assert_eq!(machine.byte(HOLE + 1), 9);
}

#[test]
fn decrease_takes_shared_pages_away_and_counts_none() {
    let mut machine = Machine::new();
    assert_eq!(machine.add(SHARED_INFO, 0, 0x20), 0);
    assert_eq!(machine.add(GRANT_TABLE, 0, 0x21), 0);
    assert_eq!(machine.ops.pages(), PAGES - 2);
    assert_eq!(machine.extents(DECREASE, 2, &[0x20]), 1);
    assert_eq!(
        (machine.shared_info_gfn(), machine.grant_gfns()),
        (None, vec![u64::MAX])
    );
    assert_eq!(machine.ops.pages(), PAGES - 4);
}

#[test]
fn increase_only_counts() {
    let mut machine = Machine::new();
    assert_eq!(machine.extents(INCREASE, 2, &[1, 2, 3, 4, 5]), 4);
    assert_eq!(machine.ops.pages(), MAX_PAGES);
    assert_eq!(
        machine.ask(CURRENT, SELF),
        i64::try_from(MAX_PAGES).unwrap()
    );
    assert_eq!(machine.extents(INCREASE, 0, &[1]), 0);
    // Null for the list of frames: nothing is read from it.
    let words = [0, 1, 0, u64::from(SELF)].map(u64::to_le_bytes).concat();
    machine.extents(DECREASE, 0, &[0x20]);
    assert_eq!(machine.call(INCREASE, &words), 1);
}

#[test]
fn other_domains_have_no_extents() {
    let mut machine = Machine::new();
    for domain in [0, 7, 0x7FF1] {
        for command in [INCREASE, DECREASE, POPULATE] {
            assert_eq!(machine.extents_for(domain, command, 0, 0, &[0x20]), 0);
        }
    }
    assert_eq!(machine.extents_for(5, DECREASE, 0, 0, &[0x20]), 1);
}

#[test]
fn demands_that_are_not_a_guest_s_to_make_do_nothing() {
    let mut machine = Machine::new();
    // Pages on demand; an exact node; host addresses of 12 bits and less.
    for flags in [1 << 16, 1 << 17 | 1 << 8, 12, 1] {
        assert_eq!(
            machine.extents_for(SELF, POPULATE, 0, flags, &[HOLE]),
            0,
            "{flags:#x}"
        );
    }
    // A node as a wish, an exact virtual one where there are none, 32-bit host addresses.
    for flags in [1 << 8, 1 << 17, 1 << 18 | 1 << 17 | 1 << 8, 32] {
        assert_eq!(
            machine.extents_for(SELF, POPULATE, 0, flags, &[HOLE]),
            1,
            "{flags:#x}"
        );
        assert_eq!(machine.remove(HOLE), 0);
    }
    assert_eq!(machine.extents_for(SELF, DECREASE, 0, 1 << 16, &[0x20]), 1);
}

#[test]
fn a_list_that_cannot_be_read_ends_the_call_there() {
    let mut machine = Machine::new();
    // The last two frame numbers before the end of RAM.
    machine
        .memory
        .write(
            Gpa(0x7F_FFF0),
            &[0x20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0],
        )
        .unwrap();
    let words = [0x7F_FFF0, 5, 0, u64::from(SELF)]
        .map(u64::to_le_bytes)
        .concat();
    assert_eq!(machine.call(DECREASE, &words), 2);
    assert_eq!(machine.memory_op(Width::Native, DECREASE, 0x80_0000), 0);
}

#[test]
fn long_lists_are_done_to_the_end() {
    let mut machine = Machine::new();
    let gfns: Vec<u64> = (0x40..0x40 + 700).collect();
    assert_eq!(machine.extents(DECREASE, 0, &gfns), 700);
    assert_eq!(machine.ops.pages(), PAGES - 700);
    assert_eq!(machine.extents(POPULATE, 0, &gfns), 700);
    assert_eq!(machine.ops.pages(), PAGES);
}
