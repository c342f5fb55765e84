//! `copy`: each status, and the marks in the entries.

use std::cell::Cell;

use pvh_abi::{DomId, Gpa};
use pvh_domain::parts::grant::GrantTable;
use pvh_hypercall::group::CopySide;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

const ME: u16 = 5;
const SELF: u16 = 0x7ff0;
const HOST: u16 = 0;
const STRANGER: u16 = 7;

/// Its table is at 0x3000; frame 4 has ones, frame 5 zeros.
fn machine() -> (VecMemory, GrantTable) {
    let memory = VecMemory::zeroed(&[(Gpa(0), 0x1_0000)]).unwrap();
    let mut table = GrantTable::new(DomId(ME), 1);
    table.map_frame(&memory, 0, 3).unwrap();
    memory.write(Gpa(0x4000), &[1; 0x1000]).unwrap();
    (memory, table)
}

fn put_entry(memory: &VecMemory, reference: u64, [flags, domain]: [u16; 2], frame: u32) {
    let word = u32::from(domain) << 16 | u32::from(flags);
    let words = [word.to_le_bytes(), frame.to_le_bytes()].concat();
    memory.write(Gpa(0x3000 + reference * 8), &words).unwrap();
}

fn flags(memory: &impl GuestMemory, reference: u64) -> u16 {
    let mut flags = [0; 2];
    memory
        .read(Gpa(0x3000 + reference * 8), &mut flags)
        .unwrap();
    u16::from_le_bytes(flags)
}

const fn frame(domain: u16, gfn: u64, offset: u16) -> CopySide {
    CopySide {
        is_grant: false,
        place: gfn,
        domain: DomId(domain),
        offset,
    }
}

const fn grant(domain: u16, reference: u32) -> CopySide {
    CopySide {
        is_grant: true,
        place: reference as u64,
        domain: DomId(domain),
        offset: 0,
    }
}

fn read(memory: &VecMemory, at: u64) -> [u8; 4] {
    let mut bytes = [0; 4];
    memory.read(Gpa(at), &mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_go_from_frame_to_frame() {
    let (memory, table) = machine();
    let done = table.copy(&memory, &frame(SELF, 4, 0xffe), &frame(SELF, 5, 1), 2);
    assert_eq!(done.0, 0);
    assert_eq!(read(&memory, 0x5000), [0, 1, 1, 0]);
}

#[test]
fn bytes_go_from_grant_to_grant_and_no_mark_is_left() {
    let (memory, table) = machine();
    put_entry(&memory, 8, [1 | 4, ME], 4);
    put_entry(&memory, 9, [1, ME], 5);
    let done = table.copy(&memory, &grant(ME, 8), &grant(SELF, 9), 2);
    assert_eq!(done.0, 0);
    assert_eq!(read(&memory, 0x5000), [1, 1, 0, 0]);
    assert_eq!([flags(&memory, 8), flags(&memory, 9)], [5, 1]);
}

#[test]
fn a_grant_may_be_copied_onto_itself() {
    let (memory, table) = machine();
    put_entry(&memory, 8, [1, ME], 4);
    let to = CopySide {
        offset: 0x800,
        ..grant(ME, 8)
    };
    memory.write(Gpa(0x4000), &[9; 4]).unwrap();
    assert_eq!(table.copy(&memory, &grant(ME, 8), &to, 4).0, 0);
    assert_eq!(read(&memory, 0x4800), [9; 4]);
    assert_eq!(flags(&memory, 8), 1);
    put_entry(&memory, 8, [1 | 4, ME], 4);
    assert_eq!(table.copy(&memory, &grant(ME, 8), &to, 4).0, -1);
    assert_eq!(flags(&memory, 8), 5);
}

#[test]
fn a_frame_is_only_ever_the_callers() {
    let (memory, table) = machine();
    let own = frame(SELF, 4, 0);
    for domain in [ME, HOST, STRANGER] {
        let other = frame(domain, 4, 0);
        assert_eq!(table.copy(&memory, &other, &own, 1).0, -8, "{domain}");
        assert_eq!(table.copy(&memory, &own, &other, 1).0, -8, "{domain}");
    }
}

#[test]
fn an_unknown_domain_is_bad() {
    let (memory, table) = machine();
    let own = frame(SELF, 4, 0);
    let other = grant(STRANGER, 0);
    assert_eq!(table.copy(&memory, &other, &own, 1).0, -2);
    assert_eq!(table.copy(&memory, &own, &other, 1).0, -2);
}

#[test]
fn domain_0_grants_nothing() {
    let (memory, table) = machine();
    let own = frame(SELF, 5, 0);
    assert_eq!(table.copy(&memory, &grant(HOST, 511), &own, 1).0, -1);
    assert_eq!(table.copy(&memory, &grant(HOST, 512), &own, 1).0, -3);
    assert_eq!(table.copy(&memory, &own, &grant(HOST, 0), 1).0, -1);
}

#[test]
fn an_entry_that_is_not_for_the_caller_is_an_error() {
    let (memory, table) = machine();
    let own = frame(SELF, 5, 0);
    for entry in [
        [0, ME],
        [2, ME],
        [3, ME],
        [1, HOST],
        [1, STRANGER],
        [1, SELF],
    ] {
        put_entry(&memory, 8, entry, 4);
        let from = table.copy(&memory, &grant(ME, 8), &own, 1);
        let to = table.copy(&memory, &own, &grant(ME, 8), 1);
        assert_eq!((from.0, to.0), (-1, -1), "{entry:?}");
        assert_eq!(flags(&memory, 8), entry[0]);
    }
    put_entry(&memory, 8, [1 | 4, ME], 4);
    assert_eq!(
        table.copy(&memory, &own, &grant(ME, 8), 1).0,
        -1,
        "to write"
    );
    assert_eq!(table.copy(&memory, &grant(ME, 512), &own, 1).0, -3);
    assert_eq!(table.copy(&memory, &own, &grant(ME, u32::MAX), 1).0, -3);
}

#[test]
fn a_frame_that_is_not_ram_is_a_bad_page() {
    let (memory, table) = machine();
    let own = frame(SELF, 5, 0);
    for gfn in [0x10, u64::MAX] {
        let bad = frame(SELF, gfn, 0);
        assert_eq!(table.copy(&memory, &bad, &own, 0).0, -9);
        assert_eq!(table.copy(&memory, &own, &bad, 0).0, -9);
    }
    put_entry(&memory, 8, [1, ME], 0x10);
    assert_eq!(table.copy(&memory, &grant(ME, 8), &own, 1).0, -9);
    assert_eq!(table.copy(&memory, &own, &grant(ME, 8), 1).0, -9);
    assert_eq!(flags(&memory, 8), 1);
}

#[test]
fn bytes_past_the_end_of_a_page_are_a_bad_copy() {
    let (memory, table) = machine();
    put_entry(&memory, 8, [1, ME], 4);
    let copy = |from, to, len| {
        let from = CopySide {
            offset: from,
            ..grant(ME, 8)
        };
        table.copy(&memory, &from, &frame(SELF, 5, to), len).0
    };
    assert_eq!(copy(0, 0, 4096), 0, "a whole page");
    assert_eq!(copy(4096, 0, 0), 0, "nothing");
    assert_eq!(copy(0, 0, 4097), -10);
    assert_eq!(copy(0xfff, 0, 2), -10);
    assert_eq!(copy(0, 0xfff, 2), -10);
    assert_eq!(copy(u16::MAX, u16::MAX, u16::MAX), -10);
    assert_eq!(flags(&memory, 8), 1);
}

/// Memory whose guest changes a hint in entry 8 before each exchange, some times, and looks at it
/// while bytes are copied.
struct Unstable {
    memory: VecMemory,
    changes_left: Cell<u32>,
    seen: Cell<u16>,
}

impl Unstable {
    fn new(memory: VecMemory, changes: u32) -> Self {
        Self {
            memory,
            changes_left: Cell::new(changes),
            seen: Cell::new(0),
        }
    }
}

impl GuestMemory for Unstable {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.memory.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.seen.set(flags(&self.memory, 8));
        self.memory.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let left = self.changes_left.get();
        if matches!(op, WordOp::CompareExchange { .. }) && left > 0 {
            self.changes_left.set(left - 1);
            let hint = 1 << 5;
            let before = self.memory.atomic_u32(at, WordOp::Load)?;
            self.memory.atomic_u32(at, WordOp::Swap(before ^ hint))?;
        }
        self.memory.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.memory.atomic_u64(at, op)
    }
}

#[test]
fn an_entry_that_changes_under_five_attempts_is_an_error() {
    for (changes, status) in [(4, 0), (5, -1), (1000, -1)] {
        let (memory, table) = machine();
        put_entry(&memory, 8, [1, ME], 4);
        let memory = Unstable::new(memory, changes);
        let done = table.copy(&memory, &grant(ME, 8), &frame(SELF, 5, 0), 1);
        assert_eq!(done.0, status, "{changes} changes");
        assert_eq!(memory.changes_left.get(), changes.saturating_sub(5));
        assert_eq!(flags(&memory, 8) & 0b1_1011, 1, "no mark is left");
    }
}

#[test]
fn an_entry_is_marked_while_bytes_are_copied() {
    let own = frame(SELF, 5, 0);
    let entry = grant(ME, 8);
    for (from, to, marks) in [
        (&entry, &own, 0x08),
        (&own, &entry, 0x18),
        (&entry, &entry, 0x18),
    ] {
        let (memory, table) = machine();
        put_entry(&memory, 8, [1, ME], 4);
        let memory = Unstable::new(memory, 0);
        assert_eq!(table.copy(&memory, from, to, 1).0, 0);
        assert_eq!(memory.seen.get(), marks | 1);
        assert_eq!(flags(&memory, 8), 1);
    }
}
