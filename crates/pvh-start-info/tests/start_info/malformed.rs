//! The reader on memory that nobody vouches for.

use proptest::prelude::*;
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_start_info::{
    Builder, Generation, MemmapRange, Module, ReadError, TableKind, read, read_cmdline,
};

use crate::guest::{Guest, NotRam};

const AT: Gpa = Gpa(0x20_0000);
const GENERATIONS: [Generation; 3] = [Generation::Draft, Generation::V0, Generation::V1];
const MODLIST: usize = 56;
const MEMMAP: usize = MODLIST + 32;

/// A version 1 structure with one module and one range, without command lines.
fn guest() -> Guest {
    let module = Module {
        paddr: Gpa(0x40_0000),
        size_bytes: 5,
        cmdline: None,
    };
    let range = MemmapRange {
        start: Gpa(0),
        len_bytes: 0x800_0000,
        kind: MemmapKind::RAM,
    };
    let modules = [module];
    let memmap = [range];
    let builder = Builder::new(Generation::V1)
        .modules(&modules)
        .memmap(&memmap);
    Guest::with(&builder, AT)
}

/// Walks both tables and returns the first error of either.
fn walk(guest: &Guest) -> Result<(), ReadError<NotRam>> {
    let info = guest.read(Generation::V1)?;
    for module in info.modules(4, |at, buf| guest.fetch(at, buf))? {
        module?;
    }
    for range in info.memmap(4, |at, buf| guest.fetch(at, buf))? {
        range?;
    }
    Ok(())
}

#[test]
fn a_structure_at_zero_is_no_structure() {
    for generation in GENERATIONS {
        let result = read(generation, Gpa(0), |_, _| -> Result<(), NotRam> {
            panic!("address 0 must not be read")
        });
        assert_eq!(result, Err(ReadError::AtZero));
    }
}

#[test]
fn a_wrong_magic_is_reported_as_found() {
    for generation in GENERATIONS {
        let mut guest = guest();
        guest.put_u32(0, 0x336e_c577);
        let want = ReadError::Magic {
            at: AT,
            found: 0x336e_c577,
        };
        assert_eq!(guest.read(generation), Err(want));
        assert_eq!(
            want.to_string(),
            "no start info at 0x200000: the magic is 0x336ec577"
        );
    }
}

#[test]
fn a_structure_cut_by_the_end_of_ram_is_an_error_at_every_length() {
    let whole = guest();
    assert_eq!(walk(&whole), Ok(()));
    for len in 0..whole.bytes.len() {
        let cut = Guest::new(AT, whole.bytes[..len].to_vec());
        assert!(matches!(walk(&cut), Err(ReadError::Fetch { .. })), "{len}");
    }
}

#[test]
fn the_error_says_where_memory_could_not_be_read() {
    let cut = Guest::new(AT, guest().bytes[..40].to_vec());
    let want = ReadError::Fetch {
        at: Gpa(0x20_0028),
        len_bytes: 16,
        source: NotRam,
    };
    assert_eq!(cut.read(Generation::V1), Err(want));
}

#[test]
fn a_structure_that_runs_past_the_end_of_the_address_space_is_an_error() {
    let at = Gpa(u64::MAX - 8);
    for (generation, len_bytes) in [(Generation::Draft, 20), (Generation::V0, 40)] {
        let result = read(generation, at, |_, _| -> Result<(), NotRam> {
            panic!("there is no such range")
        });
        assert_eq!(result, Err(ReadError::PastEnd { at, len_bytes }));
    }
}

#[test]
fn a_version_1_structure_cut_by_the_end_of_the_address_space_is_an_error() {
    let at = Gpa(u64::MAX - 39);
    let whole = guest();
    let result = read(Generation::V1, at, |_, buf: &mut [u8]| {
        buf.copy_from_slice(&whole.bytes[..buf.len()]);
        Ok::<(), NotRam>(())
    });
    let len_bytes = 56;
    assert_eq!(result, Err(ReadError::PastEnd { at, len_bytes }));
}

#[test]
fn a_count_without_a_table_is_an_error() {
    let mut no_modules = guest();
    no_modules.put_u64(16, 0);
    let table = TableKind::Modules;
    let want = ReadError::TableAbsent { table, entries: 1 };
    assert_eq!(walk(&no_modules), Err(want));
    assert_eq!(want.to_string(), "module table: 1 entries, but no address");

    let mut no_memmap = guest();
    no_memmap.put_u64(40, 0);
    let table = TableKind::Memmap;
    let want = ReadError::TableAbsent { table, entries: 1 };
    assert_eq!(walk(&no_memmap), Err(want));
    assert_eq!(want.to_string(), "memory map: 1 entries, but no address");
}

#[test]
fn a_table_without_entries_is_empty_and_never_fetched() {
    let mut guest = guest();
    guest.put_u32(12, 0);
    guest.put_u64(16, u64::MAX);
    guest.put_u32(48, 0);
    guest.put_u64(40, 0xdead_0000_0000);
    assert_eq!(walk(&guest), Ok(()));
}

#[test]
fn a_count_above_the_limit_of_the_caller_is_an_error_before_any_fetch() {
    let mut guest = guest();
    guest.put_u32(12, u32::MAX);
    let info = guest.read(Generation::V1).unwrap();
    let result = info.modules(64, |_, _| -> Result<(), NotRam> {
        panic!("the count must be refused first")
    });
    let want = ReadError::TooManyEntries {
        table: TableKind::Modules,
        entries: u32::MAX,
        limit: 64,
    };
    assert_eq!(result.err(), Some(want));
    let one_too_few = info.memmap(0, |at, buf| guest.fetch(at, buf)).err();
    let table = TableKind::Memmap;
    let want = ReadError::TooManyEntries {
        table,
        entries: 1,
        limit: 0,
    };
    assert_eq!(one_too_few, Some(want));
}

#[test]
fn a_table_that_runs_past_the_end_of_the_address_space_is_an_error() {
    let mut guest = guest();
    guest.put_u64(16, u64::MAX - 62);
    guest.put_u32(12, 2);
    let want = ReadError::TableOverflow {
        table: TableKind::Modules,
        paddr: Gpa(u64::MAX - 62),
        entries: 2,
    };
    assert_eq!(walk(&guest), Err(want));
}

#[test]
fn a_table_that_ends_with_the_address_space_is_walked() {
    let mut guest = guest();
    guest.put_u64(16, u64::MAX - 63);
    guest.put_u32(12, 2);
    let info = guest.read(Generation::V1).unwrap();
    let modules = info.modules(2, |at, buf| guest.fetch(at, buf)).unwrap();
    let places: Vec<_> = modules
        .map(|module| match module {
            Err(ReadError::Fetch { at, .. }) => at.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [u64::MAX - 63, u64::MAX - 31]);
}

#[test]
fn a_module_at_zero_is_an_error() {
    let mut guest = guest();
    guest.put_u64(MODLIST, 0);
    assert_eq!(walk(&guest), Err(ReadError::ModuleAtZero { index: 0 }));
}

#[test]
fn a_module_that_runs_past_the_end_of_the_address_space_is_an_error() {
    let mut guest = guest();
    guest.put_u64(MODLIST, u64::MAX);
    guest.put_u64(MODLIST + 8, 2);
    let want = ReadError::EntryOverflow {
        table: TableKind::Modules,
        index: 0,
        at: Gpa(u64::MAX),
        len_bytes: 2,
    };
    assert_eq!(walk(&guest), Err(want));
}

#[test]
fn a_range_that_runs_past_the_end_of_the_address_space_is_an_error() {
    let mut guest = guest();
    guest.put_u64(MEMMAP, 0x1000);
    guest.put_u64(MEMMAP + 8, u64::MAX);
    let want = ReadError::EntryOverflow {
        table: TableKind::Memmap,
        index: 0,
        at: Gpa(0x1000),
        len_bytes: u64::MAX,
    };
    assert_eq!(walk(&guest), Err(want));
}

#[test]
fn a_command_line_without_a_nul_within_the_limit_is_an_error() {
    let guest = Guest::new(AT, b"123456789\0".to_vec());
    let mut buf = [0; 8];
    let want = ReadError::LineTooLong {
        at: AT,
        limit_bytes: 8,
    };
    let line = read_cmdline(AT, &mut buf, |at, buf| guest.fetch(at, buf));
    assert_eq!(line, Err(want));
    let mut buf = [0; 9];
    let line = read_cmdline(AT, &mut buf, |at, buf| guest.fetch(at, buf));
    assert_eq!(line, Ok(&b"123456789"[..]));
}

#[test]
fn a_command_line_cut_by_the_end_of_ram_is_an_error() {
    let guest = Guest::new(AT, b"123".to_vec());
    let want = ReadError::Fetch {
        at: Gpa(0x20_0003),
        len_bytes: 1,
        source: NotRam,
    };
    let mut buf = [0; 8];
    let line = read_cmdline(AT, &mut buf, |at, buf| guest.fetch(at, buf));
    assert_eq!(line, Err(want));
}

#[test]
fn a_command_line_cut_by_the_end_of_the_address_space_is_an_error() {
    let at = Gpa(u64::MAX - 2);
    let guest = Guest::new(at, b"123".to_vec());
    let mut buf = [0; 8];
    let line = read_cmdline(at, &mut buf, |at, buf| guest.fetch(at, buf));
    let limit_bytes = 8;
    assert_eq!(line, Err(ReadError::LineTooLong { at, limit_bytes }));
}

#[test]
fn an_empty_line_fits_an_empty_buffer() {
    let guest = Guest::new(AT, b"\0".to_vec());
    let line = read_cmdline(AT, &mut [], |at, buf| guest.fetch(at, buf));
    assert_eq!(line, Ok(&b""[..]));
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_the_reader_ends_within_its_limits(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        places in prop::collection::vec(0_u64..300, 4),
        counts in prop::collection::vec(0_u32..9, 2),
    ) {
        // a magic, and tables that often point into the bytes, so that the rest is reached
        let mut fields = vec![(0, 4, 0x336e_c578_u64), (12, 4, counts[0].into()), (48, 4, counts[1].into())];
        fields.extend([16, 24, 40].into_iter().zip(&places).map(|(at, place)| (at, 8, AT.0 | place)));
        for (at, len, value) in fields {
            if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..len)) {
                field.copy_from_slice(&value.to_le_bytes()[..len]);
            }
        }
        let guest = Guest::new(AT, bytes);
        for generation in GENERATIONS {
            let Ok(info) = guest.read(generation) else { continue };
            if let Ok(modules) = info.modules(8, |at, buf| guest.fetch(at, buf)) {
                prop_assert!(modules.count() <= 8);
            }
            if let Ok(ranges) = info.memmap(8, |at, buf| guest.fetch(at, buf)) {
                prop_assert!(ranges.count() <= 8);
            }
            let mut buf = [0; 16];
            if let Some(at) = info.cmdline
                && let Ok(line) = read_cmdline(at, &mut buf, |at, buf| guest.fetch(at, buf))
            {
                prop_assert!(!line.contains(&0));
            }
        }
    }
}
