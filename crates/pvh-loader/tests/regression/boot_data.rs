//! Memory map, modules, start info.

use super::*;

/// Xen has no limit. This loader is stricter: Linux copies the map into a table of 128 entries
/// without a check of the count and adds one, so that more than 127 are refused unless the caller
/// knows its guest. A map without RAM leaves no place for anything; a start info without a map is
/// made when that is asked for.
#[test]
fn a_memory_map_has_1_to_127_entries_unless_the_rule_is_lifted() {
    let elf = Elf::bootable(Class::Elf64, ENTRY);
    let map = |len: u64| {
        let rest = (1..len).map(|n| MemmapRange {
            start: Gpa(4 * GIB + n * 0x1000),
            len_bytes: 0x1000,
            kind: MemmapKind::RESERVED,
        });
        [ram(0, 64 * MIB)]
            .into_iter()
            .chain(rest)
            .collect::<Vec<_>>()
    };
    for len in [1, 33, 127] {
        let boot = Boot {
            memmap: map(len),
            ..boot()
        };
        let guest = load_with(elf.build(), &boot).unwrap();
        let found = guest.start_info().memmap(1000, guest.fetch()).unwrap();
        let found: Vec<_> = found.map(|entry| entry.unwrap().range).collect();
        assert_eq!(found, map(len));
    }
    for len in [128, 129] {
        let long = |memmap_rule| Boot {
            memmap: map(len),
            memmap_rule,
            ..boot()
        };
        let count = usize::try_from(len).unwrap();
        let error = plan_error(&elf, &long(MemmapRule::Linux));
        assert_eq!(error, PlanError::MemmapTooLong { count, limit: 127 });
        let guest = load_with(elf.build(), &long(MemmapRule::AnyLength)).unwrap();
        assert_eq!(u64::from(guest.start_info().memmap_table.entries), len);
        let v0 = Boot {
            generation: Generation::V0,
            ..long(MemmapRule::Linux)
        };
        assert!(
            load_with(elf.build(), &v0).is_ok(),
            "a version 0 start info has no map"
        );
    }
    let none = Boot {
        memmap: Vec::new(),
        ..boot()
    };
    assert_eq!(plan_error(&elf, &none), PlanError::NoRam);
    let omitted = Boot {
        memmap_rule: MemmapRule::Omit,
        ..boot()
    };
    let guest = load_with(elf.build(), &omitted).unwrap();
    let table = guest.start_info().memmap_table;
    assert_eq!((table.entries, table.paddr), (0, None));
}

/// Xen's builders take 2 modules, and module command lines of 1023 bytes. Here any number and
/// length, each page-aligned, with its exact size; without modules there is no table, because
/// FreeBSD stops at one.
#[test]
fn modules_of_any_number_and_size_are_listed_exactly() {
    let elf = Elf::bootable(Class::Elf64, ENTRY);
    let sizes = [1, 4095, 4096, 4097, 0, 12_345];
    for count in [0, 1, 2, 64] {
        let module = |n: usize| {
            let byte = u8::try_from(n).unwrap();
            ModuleSource::from_bytes(vec![byte; sizes[n % sizes.len()]])
        };
        let boot = Boot {
            modules: (0..count).map(module).collect(),
            ..boot()
        };
        let guest = load_with(elf.build(), &boot).unwrap();
        let modules = guest.modules();
        assert_eq!(modules.len(), count);
        assert_eq!(guest.start_info().module_table.paddr.is_some(), count > 0);
        for (n, &(at, len)) in modules.iter().enumerate() {
            assert!(at.is_aligned(4096));
            assert_eq!(len, sizes[n % sizes.len()] as u64);
            let bytes = guest.memory.bytes(at, len);
            assert!(bytes.iter().all(|&byte| usize::from(byte) == n));
        }
    }
    for len in [0, 1023, 1024, 2047, 2048, 70_000] {
        let line = vec![b'a'; len];
        let module = ModuleSource::from_bytes(vec![1]).with_cmdline(line.clone());
        let boot = Boot {
            cmdline: line.clone(),
            modules: vec![module],
            ..boot()
        };
        let guest = load_with(elf.build(), &boot).unwrap();
        let info = guest.start_info();
        let module = info
            .modules(1, guest.fetch())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        for at in [info.cmdline, module.cmdline] {
            let mut buf = vec![0; len + 1];
            assert_eq!(
                read_cmdline(at.unwrap(), &mut buf, guest.fetch()).unwrap(),
                line
            );
        }
    }
}

/// Xen's builders find room where nothing is. This loader does the same, to the last page of RAM; a
/// reserved range and the pages from 0 on, where OSv and Xen write before they check, are never
/// used.
#[test]
fn the_start_info_lies_in_free_ram_and_never_in_the_low_pages() {
    let kernel = |at: u32, len: usize| {
        Elf::new(Class::Elf64)
            .segment(Segment::load(at.into(), vec![0xF4; len]))
            .segment(Segment::notes(&[Note::entry(at)]))
    };
    let elf = kernel(0x10_0000, 0xF_F000);
    let small = |end: u64| Boot {
        memmap: vec![ram(0, end)],
        ..boot()
    };
    let last = load_with(elf.build(), &small(2 * MIB)).unwrap();
    assert_eq!(last.plan.start_info, Gpa(2 * MIB - 0x1000));

    let reserved = vec![GuestRange::new(Gpa(2 * MIB - 1), 1)];
    let guest = load_with(
        elf.build(),
        &Boot {
            reserved,
            ..small(2 * MIB)
        },
    )
    .unwrap();
    assert_eq!(guest.plan.start_info, Gpa(0x1_0000));

    // Nothing but the first 64 KiB is free: refused, though there is RAM at 0x1000.
    let reserved = vec![GuestRange::new(Gpa(0x1_0000), MIB - 0x1_0000)];
    let error = plan_error(
        &kernel(0x10_0000, 0x10_0000),
        &Boot {
            reserved,
            ..small(2 * MIB)
        },
    );
    assert!(
        matches!(
            error,
            PlanError::NoRoomForStartInfo {
                longest_bytes: 0,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        matches!(
            error.fix(),
            Some(Fix::MoreRam {
                ram_bytes: 0x20_1000
            })
        ),
        "{error:?}"
    );
}

/// Xen places a module of 3 GiB when there is RAM below 4 GiB. This loader does the same, from a
/// file, without reading it into our own memory. What cannot lie below 4 GiB is refused: guests
/// pass address and size in 32 bits.
#[test]
fn an_initrd_of_3_gib_is_loaded_and_one_above_4_gib_refused() {
    let size = 3 * GIB + 1;
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.write_all_at(b"last", size - 4).unwrap();
    let elf = Elf::bootable(Class::Elf64, ENTRY);
    let boot = |file: File, low_end| Boot {
        modules: vec![ModuleSource::from_file(file).unwrap()],
        memmap: vec![ram(0, low_end), ram(4 * GIB, 8 * GIB)],
        ..Boot::default()
    };
    let guest = load_with(elf.build(), &boot(file.try_clone().unwrap(), 0xFC00_0000)).unwrap();
    let [(at, found)] = guest.modules()[..] else {
        panic!()
    };
    assert_eq!(found, size);
    assert_eq!(guest.memory.bytes(at, 5), b"first");
    assert_eq!(guest.memory.bytes(Gpa(at.0 + size - 4), 5), b"last\0");
    assert!(guest.plan.start_info < Gpa(GIB));
    let longest = guest
        .memory
        .writes()
        .iter()
        .map(|write| write.len_bytes)
        .max();
    assert!(longest <= Some(256 << 10), "{longest:?}");

    // Not below 4 GiB, though there is room above.
    let error = plan_error(&elf, &boot(file.try_clone().unwrap(), 3 * GIB));
    assert!(
        matches!(error, PlanError::NoRoomForModule { index: 0, .. }),
        "{error:?}"
    );
    assert!(matches!(error.fix(), Some(Fix::MoreRam { ram_bytes }) if ram_bytes > size));
    file.set_len(4 * GIB).unwrap();
    let error = plan_error(&elf, &boot(file, 0xFC00_0000));
    assert_eq!(error.fix(), Some(Fix::SmallerModules));
}
