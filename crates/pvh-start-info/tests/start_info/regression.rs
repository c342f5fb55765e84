//! What other loaders got wrong, one test each: items 18, 19 and 20 of the regression list.

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_start_info::{
    Builder, Generation, LINUX_CMDLINE_LIMIT, MemmapRange, Module, XEN_MODULE_CMDLINE_LIMIT,
};

use crate::guest::{Guest, u32_at, u64_at};

const AT: Gpa = Gpa(0x20_0000);

#[test]
fn a_memory_map_of_any_length_is_written_and_counted_exactly() {
    for entries in [0_u32, 1, 33, 127, 128, 129] {
        let memmap: Vec<_> = (0..entries)
            .map(|index| MemmapRange {
                start: Gpa(u64::from(index) << 20),
                len_bytes: 1 << 20,
                kind: MemmapKind(index % 7 + 1),
            })
            .collect();
        let guest = Guest::with(&Builder::new(Generation::V1).memmap(&memmap), AT);
        assert_eq!(u32_at(&guest.bytes, 48), entries);
        assert_eq!(u64_at(&guest.bytes, 40) == 0, entries == 0, "{entries}");
        let info = guest.read(Generation::V1).unwrap();
        let read = info.memmap(entries, |at, buf| guest.fetch(at, buf));
        assert!(read.unwrap().map(|r| r.unwrap().range).eq(memmap));
    }
}

#[test]
fn any_number_of_modules_is_written_and_counted_exactly() {
    for generation in [Generation::Draft, Generation::V0, Generation::V1] {
        for count in [0_u32, 1, 2, 64] {
            let modules: Vec<_> = (0..count)
                .map(|index| Module {
                    paddr: Gpa(0x100_0000 + (u64::from(index) << 16)),
                    size_bytes: 0x1001 + u64::from(index),
                    cmdline: (generation != Generation::Draft).then_some(b"name=value".as_slice()),
                })
                .collect();
            let guest = Guest::with(&Builder::new(generation).modules(&modules), AT);
            assert_eq!(u32_at(&guest.bytes, 12), count);
            assert_eq!(u32_at(&guest.bytes, 16) == 0, count == 0);
            let info = guest.read(generation).unwrap();
            let read = info.modules(count, |at, buf| guest.fetch(at, buf)).unwrap();
            let mut read_count = 0;
            for (read, module) in read.zip(&modules) {
                let read = read.unwrap();
                assert_eq!(
                    (read.paddr, read.size_bytes),
                    (module.paddr, module.size_bytes)
                );
                assert_eq!(guest.line(read.cmdline).as_deref(), module.cmdline);
                read_count += 1;
            }
            assert_eq!(read_count, count);
        }
    }
}

#[test]
fn the_size_of_a_module_is_exact_and_not_rounded_to_pages() {
    for size_bytes in [1, 0xfff, 0x1001, 0x1_2345_6789] {
        let modules = [Module {
            paddr: Gpa(0x100_0000),
            size_bytes,
            cmdline: None,
        }];
        let guest = Guest::with(&Builder::new(Generation::V1).modules(&modules), AT);
        assert_eq!(u64_at(&guest.bytes, 56 + 8), size_bytes);
    }
}

#[test]
fn a_command_line_at_a_length_limit_is_whole_and_so_is_a_longer_one() {
    for len in [LINUX_CMDLINE_LIMIT, LINUX_CMDLINE_LIMIT + 1, 8000] {
        let line = vec![b'x'; len];
        for generation in [Generation::Draft, Generation::V0, Generation::V1] {
            let guest = Guest::with(&Builder::new(generation).cmdline(&line), AT);
            let info = guest.read(generation).unwrap();
            assert_eq!(guest.line(info.cmdline), Some(line.clone()));
        }
    }
    for len in [XEN_MODULE_CMDLINE_LIMIT, XEN_MODULE_CMDLINE_LIMIT + 1] {
        let line = vec![b'm'; len];
        let modules = [Module {
            paddr: Gpa(0x100_0000),
            size_bytes: 1,
            cmdline: Some(&line),
        }];
        let guest = Guest::with(&Builder::new(Generation::V1).modules(&modules), AT);
        let info = guest.read(Generation::V1).unwrap();
        let mut read = info.modules(1, |at, buf| guest.fetch(at, buf)).unwrap();
        let module = read.next().unwrap().unwrap();
        assert_eq!(guest.line(module.cmdline), Some(line));
    }
}

#[test]
fn a_structure_at_the_very_end_of_ram_is_read_without_a_byte_beyond_it() {
    let ram_end = Gpa(0x800_0000);
    for (generation, size) in [
        (Generation::Draft, 24),
        (Generation::V0, 40),
        (Generation::V1, 56),
    ] {
        let at = Gpa(ram_end.0 - size);
        let guest = Guest::with(&Builder::new(generation), at);
        assert_eq!(guest.bytes.len() as u64, size, "RAM ends with the block");
        assert!(guest.read(generation).is_ok());
        let with_line = Builder::new(generation).cmdline(b"last words");
        let at = Gpa(ram_end.0 - size - 16);
        let guest = Guest::with(&with_line, at);
        let info = guest.read(generation).unwrap();
        assert_eq!(
            guest.line(info.cmdline).as_deref(),
            Some(&b"last words"[..])
        );
    }
}

#[test]
fn a_structure_at_the_second_page_is_an_ordinary_one() {
    let guest = Guest::with(&Builder::new(Generation::V1).cmdline(b"osv"), Gpa(0x1000));
    let info = guest.read(Generation::V1).unwrap();
    assert_eq!(info.cmdline, Some(Gpa(0x1038)));
    assert_eq!(guest.line(info.cmdline).as_deref(), Some(&b"osv"[..]));
}
