//! The bytes of each generation, field by field, with the offsets and literals of the texts.

use pvh_abi::{
    Gpa,
    start_info::{MemmapKind, StartInfoFlags},
};
use pvh_start_info::{Builder, Generation, MemmapRange, Module, Table};

use crate::guest::{Guest, build, u32_at, u64_at};

const AT: Gpa = Gpa(0x20_0000);
const GENERATIONS: [Generation; 3] = [Generation::Draft, Generation::V0, Generation::V1];

const MODULES: [Module<'_>; 2] = [
    Module {
        paddr: Gpa(0x40_0000),
        size_bytes: 0x1_2345,
        cmdline: Some(b"first"),
    },
    Module {
        paddr: Gpa(0x60_0000),
        size_bytes: 1,
        cmdline: None,
    },
];

const DRAFT_MODULES: [Module<'_>; 2] = [
    Module {
        paddr: Gpa(0x40_0000),
        size_bytes: 0x1_2345,
        cmdline: None,
    },
    Module {
        paddr: Gpa(0x60_0000),
        size_bytes: 1,
        cmdline: None,
    },
];

const MEMMAP: [MemmapRange; 2] = [
    MemmapRange {
        start: Gpa(0),
        len_bytes: 0x800_0000,
        kind: MemmapKind::RAM,
    },
    MemmapRange {
        start: Gpa(0xfc00_0000),
        len_bytes: 0x1000,
        kind: MemmapKind::ACPI,
    },
];

fn full_v1() -> Builder<'static> {
    Builder::new(Generation::V1)
        .flags(StartInfoFlags(3))
        .cmdline(b"hello=world")
        .modules(&MODULES)
        .memmap(&MEMMAP)
        .rsdp(Gpa(0xfc00_0040))
}

#[test]
fn every_generation_begins_with_the_magic() {
    for generation in GENERATIONS {
        let bytes = build(&Builder::new(generation), AT);
        assert_eq!(bytes[..4], [0x78, 0xc5, 0x6e, 0x33], "{generation:?}");
        assert_eq!(u32_at(&bytes, 0), 0x336e_c578);
    }
}

#[test]
fn a_structure_with_nothing_in_it_says_absent_everywhere() {
    let draft = build(&Builder::new(Generation::Draft), AT);
    assert_eq!(draft.len(), 24, "20 bytes, padded to 8");
    assert_eq!(draft[4..], [0; 20]);
    let v0 = build(&Builder::new(Generation::V0), AT);
    assert_eq!(v0.len(), 40);
    assert_eq!(v0[4..], [0; 36]);
    let v1 = build(&Builder::new(Generation::V1), AT);
    assert_eq!(v1.len(), 56);
    assert_eq!(u32_at(&v1, 4), 1);
    assert_eq!(v1[8..], [0; 48]);
}

#[test]
fn without_modules_the_module_list_address_is_zero() {
    for generation in GENERATIONS {
        let bytes = build(&Builder::new(generation).cmdline(b"x").modules(&[]), AT);
        assert_eq!(u32_at(&bytes, 12), 0, "nr_modules of {generation:?}");
        assert_eq!(u32_at(&bytes, 16), 0, "modlist_paddr of {generation:?}");
    }
}

#[test]
fn the_draft_has_the_fields_of_the_first_text() {
    let builder = Builder::new(Generation::Draft)
        .flags(StartInfoFlags(3))
        .cmdline(b"hello=world")
        .modules(&DRAFT_MODULES);
    let bytes = build(&builder, AT);
    assert_eq!(u32_at(&bytes, 4), 3, "flags");
    assert_eq!(u32_at(&bytes, 8), 0x20_0018, "cmdline_paddr");
    assert_eq!(u32_at(&bytes, 12), 2, "nr_modules");
    assert_eq!(u32_at(&bytes, 16), 0x20_0028, "modlist_paddr");
    assert_eq!(bytes[0x18..0x24], *b"hello=world\0");
    assert_eq!(u32_at(&bytes, 0x28), 0x40_0000, "paddr of entry 0");
    assert_eq!(u32_at(&bytes, 0x2c), 0x1_2345, "size of entry 0");
    assert_eq!(u32_at(&bytes, 0x30), 0x60_0000, "entries are 8 bytes apart");
    assert_eq!(u32_at(&bytes, 0x34), 1);
    assert_eq!(bytes.len(), 0x38);
}

#[test]
fn version_0_has_the_fields_of_the_header() {
    let builder = Builder::new(Generation::V0)
        .flags(StartInfoFlags(3))
        .cmdline(b"hello=world")
        .modules(&MODULES)
        .rsdp(Gpa(0xfc00_0040));
    let bytes = build(&builder, AT);
    assert_eq!(u32_at(&bytes, 4), 0, "version");
    assert_eq!(u32_at(&bytes, 8), 3, "flags");
    assert_eq!(u32_at(&bytes, 12), 2, "nr_modules");
    assert_eq!(u64_at(&bytes, 16), 0x20_0038, "modlist_paddr");
    assert_eq!(u64_at(&bytes, 24), 0x20_0028, "cmdline_paddr");
    assert_eq!(u64_at(&bytes, 32), 0xfc00_0040, "rsdp_paddr");
    assert_eq!(
        bytes[40..52],
        *b"hello=world\0",
        "at the end of the 40 bytes"
    );
}

#[test]
fn version_1_has_the_fields_of_the_header() {
    let bytes = build(&full_v1(), AT);
    assert_eq!(u32_at(&bytes, 4), 1, "version");
    assert_eq!(u32_at(&bytes, 8), 3, "flags");
    assert_eq!(u32_at(&bytes, 12), 2, "nr_modules");
    assert_eq!(u64_at(&bytes, 16), 0x20_0048, "modlist_paddr");
    assert_eq!(u64_at(&bytes, 24), 0x20_0038, "cmdline_paddr");
    assert_eq!(u64_at(&bytes, 32), 0xfc00_0040, "rsdp_paddr");
    assert_eq!(u64_at(&bytes, 40), 0x20_0090, "memmap_paddr");
    assert_eq!(u32_at(&bytes, 48), 2, "memmap_entries");
    assert_eq!(u32_at(&bytes, 52), 0, "reserved");
}

#[test]
fn module_entries_have_the_fields_of_the_header() {
    let bytes = build(&full_v1(), AT);
    let first = &bytes[0x48..0x68];
    assert_eq!(u64_at(first, 0), 0x40_0000, "paddr");
    assert_eq!(u64_at(first, 8), 0x1_2345, "size");
    assert_eq!(u64_at(first, 16), 0x20_0088, "cmdline_paddr");
    assert_eq!(u64_at(first, 24), 0, "reserved");
    assert_eq!(bytes[0x88..0x8e], *b"first\0");
    let second = &bytes[0x68..0x88];
    assert_eq!(u64_at(second, 0), 0x60_0000, "entries are 32 bytes apart");
    assert_eq!(u64_at(second, 16), 0, "no command line: address 0");
}

#[test]
fn memory_map_entries_have_the_fields_of_the_header() {
    let bytes = build(&full_v1(), AT);
    let first = &bytes[0x90..0xa8];
    assert_eq!(u64_at(first, 0), 0, "addr");
    assert_eq!(u64_at(first, 8), 0x800_0000, "size");
    assert_eq!(u32_at(first, 16), 1, "type: RAM");
    assert_eq!(u32_at(first, 20), 0, "reserved");
    let second = &bytes[0xa8..];
    assert_eq!(u64_at(second, 0), 0xfc00_0000, "entries are 24 bytes apart");
    assert_eq!(u32_at(second, 16), 3, "type: ACPI");
    assert_eq!(second.len(), 24);
}

#[test]
fn parts_follow_each_other_as_libxenguest_places_them() {
    let bytes = build(&full_v1(), AT);
    let cmdline = u64_at(&bytes, 24);
    let modules = u64_at(&bytes, 16);
    let module_cmdline = u64_at(&bytes, 0x48 + 16);
    let memmap = u64_at(&bytes, 40);
    let order = [AT.0, cmdline, modules, module_cmdline, memmap];
    assert!(order.is_sorted_by(|a, b| a < b), "{order:#x?}");
    assert!(order.iter().all(|address| address % 8 == 0), "{order:#x?}");
}

#[test]
fn an_empty_command_line_is_present_and_empty() {
    let guest = Guest::with(&Builder::new(Generation::V1).cmdline(b""), AT);
    let info = guest.read(Generation::V1).unwrap();
    assert_eq!(info.cmdline, Some(Gpa(0x20_0038)));
    assert_eq!(guest.line(info.cmdline), Some(Vec::new()));
}

#[test]
fn no_byte_of_the_buffer_shows_through() {
    let draft = Builder::new(Generation::Draft).cmdline(b"odd");
    for builder in [full_v1(), draft.modules(&DRAFT_MODULES)] {
        let size = build(&builder, AT).len();
        let mut zeros = vec![0x00; size + 9];
        let mut ones = vec![0xff; size + 9];
        assert_eq!(builder.write(AT, &mut zeros), Ok(size));
        assert_eq!(builder.write(AT, &mut ones), Ok(size));
        assert_eq!(zeros[..size], ones[..size]);
        assert_eq!(zeros[size..], [0x00; 9], "nothing past the end");
        assert_eq!(ones[size..], [0xff; 9], "nothing past the end");
    }
}

#[test]
fn a_structure_is_read_back_as_it_was_built() {
    let guest = Guest::with(&full_v1(), AT);
    let info = guest.read(Generation::V1).unwrap();
    assert_eq!((info.version, info.flags.0), (Some(1), 3));
    assert_eq!(info.rsdp, Some(Gpa(0xfc00_0040)));
    assert_eq!(
        guest.line(info.cmdline).as_deref(),
        Some(&b"hello=world"[..])
    );
    let modules: Result<Vec<_>, _> = info
        .modules(2, |at, buf| guest.fetch(at, buf))
        .unwrap()
        .collect();
    let modules = modules.unwrap();
    assert_eq!(modules[0].paddr, Gpa(0x40_0000));
    assert_eq!(modules[0].size_bytes, 0x1_2345);
    assert_eq!(
        guest.line(modules[0].cmdline).as_deref(),
        Some(&b"first"[..])
    );
    assert_eq!(modules[1].cmdline, None);
    let ranges = info.memmap(2, |at, buf| guest.fetch(at, buf)).unwrap();
    assert!(ranges.map(|r| r.unwrap().range).eq(MEMMAP));
}

#[test]
fn no_byte_is_fetched_twice() {
    let guest = Guest::with(&full_v1(), AT);
    let info = guest.read(Generation::V1).unwrap();
    guest.line(info.cmdline);
    let modules = info.modules(2, |at, buf| guest.fetch(at, buf)).unwrap();
    for module in modules {
        guest.line(module.unwrap().cmdline);
    }
    let ranges = info.memmap(2, |at, buf| guest.fetch(at, buf)).unwrap();
    assert_eq!(ranges.count(), 2);
    assert_eq!(guest.most_fetches_of_a_byte(), 1);
}

#[test]
fn version_0_read_as_version_1_has_no_memory_map() {
    let guest = Guest::with(&Builder::new(Generation::V0), AT);
    assert_eq!(
        guest.bytes.len(),
        40,
        "the 16 bytes of version 1 are not there"
    );
    let info = guest.read(Generation::V1).unwrap();
    assert_eq!(info.version, Some(0));
    assert_eq!(info.memmap_table, Table::default());
}

#[test]
fn version_1_read_as_version_0_is_read_as_far_as_version_0_goes() {
    let guest = Guest::with(&full_v1(), AT);
    let info = guest.read(Generation::V0).unwrap();
    assert_eq!(info.version, Some(1));
    assert_eq!(info.module_table.entries, 2);
    assert_eq!(info.memmap_table, Table::default());
}

#[test]
fn a_newer_version_is_read_as_version_1_for_it_only_appends() {
    for version in [2, 7, u32::MAX] {
        let mut guest = Guest::with(&full_v1(), AT);
        guest.put_u32(4, version);
        let info = guest.read(Generation::V1).unwrap();
        assert_eq!(info.version, Some(version));
        assert_eq!(info.memmap_table.entries, 2);
        assert_eq!(info.rsdp, Some(Gpa(0xfc00_0040)));
    }
}

#[test]
fn the_caller_says_whether_it_is_a_draft() {
    let builder = Builder::new(Generation::Draft).modules(&DRAFT_MODULES);
    let mut guest = Guest::with(&builder, AT);
    guest.bytes.extend([0; 64]);
    let guest = Guest::new(AT, guest.bytes);
    let draft = guest.read(Generation::Draft).unwrap();
    assert_eq!((draft.version, draft.module_table.entries), (None, 2));
    // the same bytes are a version 0 just as well: nothing in them says otherwise
    let v0 = guest.read(Generation::V0).unwrap();
    assert_eq!((v0.version, v0.module_table.entries), (Some(0), 2));
}

#[test]
fn reserved_fields_are_reported_and_not_trusted() {
    let mut guest = Guest::with(&full_v1(), AT);
    guest.put_u32(52, 0xdead_beef);
    guest.put_u64(0x48 + 24, 0x0123_4567_89ab_cdef);
    guest.put_u32(0x90 + 20, 5);
    let info = guest.read(Generation::V1).unwrap();
    assert_eq!(info.reserved, 0xdead_beef);
    let mut modules = info.modules(2, |at, buf| guest.fetch(at, buf)).unwrap();
    assert_eq!(
        modules.next().unwrap().unwrap().reserved,
        0x0123_4567_89ab_cdef
    );
    let mut ranges = info.memmap(2, |at, buf| guest.fetch(at, buf)).unwrap();
    let first = ranges.next().unwrap().unwrap();
    assert_eq!((first.reserved, first.range), (5, MEMMAP[0]));
}
