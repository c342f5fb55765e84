//! What a guest grants to domain 0, as the host's back ends use it.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

use std::{sync::Arc, thread};

use pvh_abi::{DomId, Gpa};
use pvh_domain::{GrantError, HostGrants, parts::grant::GrantTable};
use pvh_memory::{Frames, GuestMemory, VecMemory, WordOp};
use pvh_ring::{Access, GrantedPage, Grants};

const ME: DomId = DomId(5);
/// Where the guest has frame 0 of its table.
const TABLE: u64 = 0x3000;
const PERMIT: u32 = 1;
const READ_ONLY: u32 = 1 << 2;
const READING: u32 = 1 << 3;
const WRITING: u32 = 1 << 4;
const SUB_PAGE: u32 = 1 << 8;

struct Guest {
    memory: Arc<VecMemory>,
    table: GrantTable,
}

impl Guest {
    fn new() -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x1_0000)]).unwrap();
        let memory = Arc::new(memory.with_spare_frames(4));
        let mut table = GrantTable::new(ME, 64);
        table.map_frame(&*memory, 0, TABLE >> 12).unwrap();
        Self { memory, table }
    }

    fn grants(&self) -> HostGrants<Arc<VecMemory>> {
        self.table.host_grants(Arc::clone(&self.memory))
    }

    fn put(&self, reference: u64, word: u32, frame: u32) {
        let at = TABLE + 8 * reference;
        for (at, word) in [(at + 4, frame), (at, word)] {
            let op = WordOp::Swap(word);
            self.memory.atomic_u32(Gpa(at), op).unwrap();
        }
    }

    fn word(&self, reference: u64) -> u32 {
        let at = Gpa(TABLE + 8 * reference);
        self.memory.atomic_u32(at, WordOp::Load).unwrap()
    }
}

#[test]
fn a_page_is_marked_while_it_is_in_use() {
    let guest = Guest::new();
    let grants = guest.grants();
    guest.put(9, PERMIT, 6);
    let page = grants.take(9, Access::Read).unwrap();
    assert_eq!(page.gpa(), Gpa(0x6000));
    assert_eq!(guest.word(9), PERMIT | READING);
    drop(page);
    assert_eq!(guest.word(9), PERMIT);
    let page = grants.take(9, Access::Write).unwrap();
    assert_eq!(guest.word(9), PERMIT | READING | WRITING);
    drop(page);
    assert_eq!(guest.word(9), PERMIT);
}

#[test]
fn the_last_use_takes_the_marks_back() {
    let guest = Guest::new();
    let grants = guest.grants();
    guest.put(9, PERMIT, 6);
    let reading = grants.take(9, Access::Read).unwrap();
    let writing = grants.take(9, Access::Write).unwrap();
    let again = grants.clone().take(9, Access::Write).unwrap();
    drop(writing);
    assert_eq!(guest.word(9), PERMIT | READING | WRITING);
    drop(again);
    assert_eq!(guest.word(9), PERMIT | READING);
    drop(reading);
    assert_eq!(guest.word(9), PERMIT);
}

#[test]
fn what_is_not_granted_to_domain_0_is_refused_and_not_marked() {
    let guest = Guest::new();
    let grants = guest.grants();
    let not_permitted = GrantError::NotPermitted { reference: 9 };
    for (word, access) in [
        (0, Access::Read),
        // accept_transfer, transitive
        (2, Access::Read),
        (3, Access::Read),
        // To the guest itself, to a third.
        (5 << 16 | PERMIT, Access::Read),
        (7 << 16 | PERMIT, Access::Read),
        (PERMIT | READ_ONLY, Access::Write),
        (PERMIT | SUB_PAGE, Access::Read),
        (PERMIT | SUB_PAGE, Access::Write),
    ] {
        guest.put(9, word, 6);
        assert_eq!(
            grants.take(9, access).unwrap_err(),
            not_permitted,
            "{word:#x}"
        );
        assert_eq!(guest.word(9), word);
    }
    guest.put(9, PERMIT | READ_ONLY, 6);
    let page = grants.take(9, Access::Read).unwrap();
    assert_eq!(guest.word(9), PERMIT | READ_ONLY | READING);
    drop(page);
}

#[test]
fn a_frame_that_is_not_ram_is_refused_and_the_marks_are_taken_back() {
    let guest = Guest::new();
    let grants = guest.grants();
    for frame in [0x10, 0xffff_ffff] {
        guest.put(9, PERMIT, frame);
        let refused = grants.take(9, Access::Write).unwrap_err();
        assert_eq!(refused, GrantError::NotRam { reference: 9 });
        assert_eq!(guest.word(9), PERMIT);
    }
    // The marks of another use stay.
    guest.put(9, PERMIT, 6);
    let page = grants.take(9, Access::Read).unwrap();
    guest.put(9, PERMIT | READING, 0x10);
    assert!(grants.take(9, Access::Write).is_err());
    assert_eq!(guest.word(9), PERMIT | READING);
    drop(page);
}

#[test]
fn an_entry_that_the_guest_cannot_have_written_is_refused() {
    let guest = Guest::new();
    let grants = guest.grants();
    for reference in [512, 32768, u32::MAX] {
        let refused = grants.take(reference, Access::Read).unwrap_err();
        assert_eq!(refused, GrantError::NoEntry { reference });
    }
    // The guest does not see the frame of the table.
    let table = GrantTable::new(ME, 64);
    table.grant_to_host(&*guest.memory, 0, 6).unwrap();
    let unmapped = table.host_grants(Arc::clone(&guest.memory));
    let refused = unmapped.take(0, Access::Read).unwrap_err();
    assert_eq!(refused, GrantError::NoEntry { reference: 0 });
}

#[test]
fn the_marks_follow_a_frame_of_the_table_that_moves() {
    let mut guest = Guest::new();
    let grants = guest.grants();
    guest.put(9, PERMIT, 6);
    let page = grants.take(9, Access::Write).unwrap();
    guest.table.map_frame(&*guest.memory, 0, 8).unwrap();
    let moved = || guest.memory.atomic_u32(Gpa(0x8000 + 72), WordOp::Load);
    assert_eq!(moved().unwrap(), PERMIT | READING | WRITING);
    drop(page);
    assert_eq!(moved().unwrap(), PERMIT);
    assert_eq!(guest.word(9), PERMIT | READING | WRITING, "a copy stays");
}

#[test]
fn a_use_outlives_the_table_and_the_page() {
    let mut guest = Guest::new();
    let grants = guest.grants();
    guest.put(9, PERMIT, 6);
    let page = grants.take(9, Access::Write).unwrap();
    // The guest takes its table and the page away.
    guest.memory.remove_frame(6).unwrap();
    guest.table.unmap_frame(&*guest.memory, TABLE >> 12);
    assert!(guest.memory.read(page.gpa(), &mut [0]).is_err());
    let Guest { table, .. } = guest;
    drop(table);
    drop(page);
    assert!(grants.take(9, Access::Read).is_err());
}

#[test]
fn a_revoked_entry_keeps_no_mark_of_the_host() {
    let guest = Guest::new();
    let grants = guest.grants();
    guest.put(9, PERMIT, 6);
    let page = grants.take(9, Access::Write).unwrap();
    // A hostile guest ends the grant in the middle, and uses the entry for another domain.
    guest.put(9, 7 << 16 | PERMIT, 8);
    drop(page);
    assert_eq!(guest.word(9), 7 << 16 | PERMIT);
}

#[test]
fn threads_that_use_one_entry_leave_no_mark() {
    let guest = Guest::new();
    guest.put(9, PERMIT, 6);
    thread::scope(|scope| {
        for access in [Access::Read, Access::Write, Access::Write] {
            let grants = guest.grants();
            scope.spawn(move || {
                for _ in 0..2000 {
                    let page = grants.take(9, access).unwrap();
                    assert_eq!(page.gpa(), Gpa(0x6000));
                }
            });
        }
    });
    assert_eq!(guest.word(9), PERMIT);
}
