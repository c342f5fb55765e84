//! The table's size and place, and the operations that are no copies.

use pvh_abi::{DomId, Errno, Gpa, grant::GrantStatus};
use pvh_domain::parts::grant::{CONSOLE_REFERENCE, GrantTable, XENSTORE_REFERENCE};
use pvh_hypercall::group::GrantTableSize;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

const ME: DomId = DomId(5);
const SELF: DomId = DomId(0x7ff0);
const HOST: DomId = DomId(0);
const STRANGER: DomId = DomId(7);
const BAD_DOMAIN: GrantStatus = GrantStatus(-2);
const BAD_GNTREF: GrantStatus = GrantStatus(-3);
const PERMISSION_DENIED: GrantStatus = GrantStatus(-8);
const GENERAL_ERROR: GrantStatus = GrantStatus(-1);
const EINVAL: Errno = Errno(22);

fn memory() -> VecMemory {
    VecMemory::zeroed(&[(Gpa(0), 0x1_0000)]).unwrap()
}

fn bytes<const N: usize>(memory: &VecMemory, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read(Gpa(at), &mut bytes).unwrap();
    bytes
}

fn size(table: &GrantTable) -> (u32, u32) {
    let GrantTableSize { frames, max_frames } = table.query_size(SELF).unwrap();
    (frames, max_frames)
}

fn setup(table: &mut GrantTable, domain: DomId, count: u32) -> Result<Vec<u64>, GrantStatus> {
    table.setup_table(domain, count).map(Iterator::collect)
}

#[test]
fn the_reserved_entries_permit_domain_0_the_rings() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    assert_eq!((CONSOLE_REFERENCE, XENSTORE_REFERENCE), (0, 1));
    assert_eq!(table.grant_to_host(&memory, 0, 0xf_efff), Ok(()));
    assert_eq!(table.grant_to_host(&memory, 1, 0xf_effc), Ok(()));
    assert_eq!(table.grant_to_host(&memory, 512, 1), Err(EINVAL));
    table.map_frame(&memory, 0, 3).unwrap();
    let entries = [
        1, 0, 0, 0, 0xff, 0xef, 0xf, 0, 1, 0, 0, 0, 0xfc, 0xef, 0xf, 0,
    ];
    assert_eq!(bytes(&memory, 0x3000), entries);
    assert_eq!(bytes(&memory, 0x3010), [0; 16]);
}

#[test]
fn the_table_begins_with_one_frame_and_grows_to_the_highest_index() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    assert_eq!(table.map_frame(&memory, 64, 2), Err(EINVAL));
    assert_eq!(size(&table), (1, 64));
    assert_eq!(table.map_frame(&memory, 3, 2), Ok(()));
    assert_eq!(size(&table), (4, 64));
    assert_eq!(table.map_frame(&memory, 63, 4), Ok(()));
    assert_eq!(size(&table), (64, 64));
    for index in [64, 0x8000_0000, 1 << 32, u64::MAX] {
        let mapped = table.map_frame(&memory, index, 5);
        assert_eq!(mapped, Err(EINVAL), "{index:#x}");
    }
    assert_eq!(size(&table), (64, 64));
}

#[test]
fn the_largest_table_has_1_to_64_frames() {
    for (asked, max) in [(0, 1), (1, 1), (32, 32), (65, 64), (u32::MAX, 64)] {
        assert_eq!(size(&GrantTable::new(ME, asked)), (1, max), "{asked}");
    }
}

#[test]
fn a_frame_that_is_not_ram_is_einval_and_the_table_has_grown() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    for gfn in [0x10, 1 << 52, u64::MAX] {
        assert_eq!(table.map_frame(&memory, 1, gfn), Err(EINVAL));
    }
    assert_eq!(size(&table), (2, 64));
    assert_eq!(setup(&mut table, SELF, 2), Ok(vec![u64::MAX; 2]));
}

#[test]
fn a_frame_moves_with_its_contents() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    table.map_frame(&memory, 0, 3).unwrap();
    memory.write(Gpa(0x3ff8), &[7; 8]).unwrap();
    table.map_frame(&memory, 0, 4).unwrap();
    assert_eq!(bytes(&memory, 0x4ff8), [7; 8]);
    assert!(table.unmap_frame(&memory, 4));
    assert!(!table.unmap_frame(&memory, 4), "no more");
    memory.write(Gpa(0x4ff8), &[0; 8]).unwrap();
    table.map_frame(&memory, 0, 5).unwrap();
    assert_eq!(bytes(&memory, 0x5ff8), [7; 8]);
}

#[test]
fn a_frame_mapped_again_where_it_is_stays_as_it_is() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    table.map_frame(&memory, 0, 3).unwrap();
    memory.write(Gpa(0x3000), &[7; 8]).unwrap();
    let again = NoWrites(&memory);
    assert_eq!(table.map_frame(&again, 0, 3), Ok(()));
    assert_eq!(table.map_frame(&again, 0, 4), Err(EINVAL), "to be copied");
    assert_eq!(bytes(&memory, 0x3000), [7; 8]);
}

/// Memory that cannot be written.
struct NoWrites<'memory>(&'memory VecMemory);

impl GuestMemory for NoWrites<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.0.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let len_bytes = bytes.len() as u64;
        Err(MemoryError::NotRam { at, len_bytes })
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.0.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.0.atomic_u64(at, op)
    }
}

#[test]
fn a_second_frame_at_one_place_takes_the_first_back() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    table.map_frame(&memory, 0, 3).unwrap();
    memory.write(Gpa(0x3000), &[7; 8]).unwrap();
    table.map_frame(&memory, 1, 3).unwrap();
    assert_eq!(bytes(&memory, 0x3000), [0; 8], "the second one's zeros");
    assert_eq!(setup(&mut table, SELF, 2), Ok(vec![u64::MAX, 3]));
    table.map_frame(&memory, 0, 4).unwrap();
    assert_eq!(bytes(&memory, 0x4000), [7; 8]);
}

#[test]
fn setup_table_grows_and_lists_mapped_frames() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 4);
    table.map_frame(&memory, 1, 9).unwrap();
    let listed = setup(&mut table, SELF, 4);
    assert_eq!(listed, Ok(vec![u64::MAX, 9, u64::MAX, u64::MAX]));
    assert_eq!(size(&table), (4, 4));
    assert_eq!(setup(&mut table, ME, 0), Ok(vec![]));
    assert_eq!(setup(&mut table, SELF, 5), Err(GENERAL_ERROR));
    assert_eq!(setup(&mut table, HOST, 5), Err(PERMISSION_DENIED));
    assert_eq!(setup(&mut table, STRANGER, 5), Err(BAD_DOMAIN));
}

#[test]
fn the_size_is_the_callers_own() {
    let table = GrantTable::new(ME, 64);
    assert_eq!(table.query_size(ME), table.query_size(SELF));
    assert_eq!(table.query_size(HOST), Err(PERMISSION_DENIED));
    assert_eq!(table.query_size(STRANGER), Err(BAD_DOMAIN));
}

#[test]
fn version_1_is_the_only_one() {
    let table = GrantTable::new(ME, 64);
    assert_eq!(table.set_version(1), Ok(1));
    assert_eq!(table.set_version(2), Err(Errno(38)));
    for version in [0, 3, u32::MAX] {
        assert_eq!(table.set_version(version), Err(EINVAL), "{version}");
    }
    assert_eq!(table.version(SELF), Ok(1));
    assert_eq!(table.version(ME), Ok(1));
    assert_eq!(table.version(HOST), Err(Errno(1)));
    assert_eq!(table.version(STRANGER), Err(Errno(3)));
}

#[test]
fn nothing_can_be_mapped() {
    let table = GrantTable::new(ME, 64);
    let map = |flags, domain| table.map(flags, domain).0;
    assert_eq!(map(0, HOST), -3, "neither for the host nor for a device");
    assert_eq!(map(4, STRANGER), -3, "read only is no kind of mapping");
    assert_eq!(map(1, STRANGER), -1, "for a device");
    assert_eq!(map(2 | 8, STRANGER), -1, "for an application");
    assert_eq!(map(2 | 16, STRANGER), -1, "by page table entry");
    assert_eq!(map(2, STRANGER), -2);
    assert_eq!(map(2, SELF), -2, "not an id");
    assert_eq!(map(2, HOST), -13);
    assert_eq!(map(2 | 4, ME), -13);
    assert_eq!(table.unmap(), GrantStatus(-4));
}

#[test]
fn swap_exchanges_two_entries_in_the_table() {
    let memory = memory();
    let mut table = GrantTable::new(ME, 64);
    table.map_frame(&memory, 0, 3).unwrap();
    memory.write(Gpa(0x3000), &[1; 8]).unwrap();
    memory.write(Gpa(0x3ff8), &[2; 8]).unwrap();
    assert_eq!(table.swap(&memory, 0, 511), GrantStatus(0));
    assert_eq!(bytes(&memory, 0x3000), [2; 8]);
    assert_eq!(bytes(&memory, 0x3ff8), [1; 8]);
    assert_eq!(table.swap(&memory, 511, 511), GrantStatus(0));
    assert_eq!(bytes(&memory, 0x3ff8), [1; 8]);
    assert_eq!(table.swap(&memory, 0, 512), BAD_GNTREF);
    assert_eq!(table.swap(&memory, u32::MAX, 0), BAD_GNTREF);
}
