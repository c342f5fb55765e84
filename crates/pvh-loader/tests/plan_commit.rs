//! What a commit writes into guest memory, and that a failed one writes nothing.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the numbers are small, and a test may stop"
)]

use std::{
    fs::File,
    io::{Seek, Write as _},
};

use pvh_abi::{
    Gpa, GuestRange,
    start_info::{MemmapKind, StartInfoFlags},
};
use pvh_loader::{
    Image,
    commit::{CommitError, Method},
    module::ModuleSource,
    plan::{Boot, MemmapRule, PlanError, WriteKind},
};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_start_info::{Generation, MemmapRange, read, read_cmdline};
use pvh_testkit::elf::{Class, Elf, Note, Segment};

#[path = "common/recorder.rs"]
mod common;
use common::{Recorder, planned};

const MIB: u64 = 1 << 20;

/// 5000 bytes at 1 MiB, zeros to 1 MiB + 9000; 100 bytes at 2 MiB.
fn kernel() -> Vec<u8> {
    Elf::new(Class::Elf64)
        .segment(Segment::load(MIB, numbers(5000)).mem_size(9000))
        .segment(Segment::notes(&[Note::entry(0x10_0010)]))
        .segment(Segment::load(2 * MIB, numbers(100)))
        .build()
}

/// No byte 0 and no byte of the poison.
fn numbers(len: usize) -> Vec<u8> {
    (1..=100).cycle().take(len).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn ram() -> Vec<GuestRange> {
    vec![GuestRange::new(Gpa(0), 16 * MIB)]
}

fn memmap() -> Vec<MemmapRange> {
    let [ram] = ram()[..] else { panic!() };
    vec![
        MemmapRange {
            start: ram.start,
            len_bytes: ram.len_bytes,
            kind: MemmapKind::RAM,
        },
        MemmapRange {
            start: Gpa(0xFC00_0000),
            len_bytes: 0x1000,
            kind: MemmapKind::ACPI,
        },
    ]
}

fn boot() -> Boot {
    let file = ModuleSource::from_file(file_of(&numbers(600_001))).unwrap();
    Boot {
        cmdline: b"console=ttyS0".to_vec(),
        modules: vec![
            file.with_cmdline("initrd"),
            ModuleSource::from_bytes(numbers(4096)),
            ModuleSource::from_bytes(Vec::new()),
        ],
        memmap: memmap(),
        rsdp: Some(Gpa(0xFC00_0000)),
        flags: StartInfoFlags::PRIVILEGED,
        ..Boot::default()
    }
}

/// The image as a file, so that its bytes are read at commit.
fn image() -> Image {
    Image::from_file(file_of(&kernel()), &Default::default()).unwrap()
}

fn line<M: GuestMemory>(memory: &M, at: Option<Gpa>) -> Vec<u8> {
    let mut buf = [0; 64];
    let fetch = |at, buf: &mut [u8]| memory.read(at, buf);
    read_cmdline(at.unwrap(), &mut buf, fetch).unwrap().to_vec()
}

#[test]
fn the_guest_finds_everything_where_the_start_info_says() {
    let (image, boot) = (image(), boot());
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    let loaded = plan.commit(Method::Copy, &memory).unwrap();
    assert_eq!(loaded.entry.rip, 0x10_0010);
    assert_eq!(loaded.entry.rbx, plan.placement().start_info.0);

    let fetch = |at, buf: &mut [u8]| memory.read(at, buf);
    let info = read(Generation::V1, plan.placement().start_info, fetch).unwrap();
    assert_eq!(info.version, Some(1));
    assert_eq!(info.flags, StartInfoFlags::PRIVILEGED);
    assert_eq!(info.rsdp, Some(Gpa(0xFC00_0000)));
    assert_eq!(line(&memory, info.cmdline), b"console=ttyS0");
    let modules: Vec<_> = info
        .modules(10, fetch)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let want = [(600_001, &b"initrd"[..]), (4096, b""), (0, b"")];
    assert_eq!(modules.len(), want.len());
    for (module, (size_bytes, cmdline)) in modules.iter().zip(want) {
        assert_eq!(module.size_bytes, size_bytes);
        assert_eq!(line(&memory, module.cmdline), cmdline);
        let len = usize::try_from(size_bytes).unwrap();
        assert!(memory.bytes(module.paddr, size_bytes) == numbers(len));
    }
    let map: Vec<_> = info
        .memmap(10, fetch)
        .unwrap()
        .map(|entry| entry.unwrap().range)
        .collect();
    assert_eq!(map, memmap());
}

#[test]
fn exactly_the_planned_ranges_are_written() {
    let (image, boot) = (image(), boot());
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    let loaded = plan.commit(Method::Copy, &memory).unwrap();
    let planned = planned(plan.placement());
    assert_eq!(memory.written(), planned);
    let total: u64 = planned.iter().map(|range| range.len_bytes).sum();
    assert_eq!(loaded.written_bytes, total);
}

#[test]
fn zeros_are_written_after_a_segment_and_after_a_module() {
    let (image, boot) = (image(), boot());
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    plan.commit(Method::Copy, &memory).unwrap();
    assert!(memory.bytes(Gpa(MIB), 5000) == numbers(5000));
    assert!(memory.bytes(Gpa(MIB + 5000), 4000) == [0; 4000]);
    assert_eq!(memory.bytes(Gpa(MIB + 9000), 1), [common::POISON]);
    let [initrd, _, empty] = plan.placement().modules[..] else {
        panic!()
    };
    let end = initrd.end().unwrap();
    let tail = end.checked_align_up(4096).unwrap().0 - end.0;
    assert!(memory.bytes(end, tail).iter().all(|&byte| byte == 0));
    assert_eq!(memory.bytes(empty.start, 4096), [0; 4096]);
}

#[test]
fn every_byte_of_the_start_info_pages_is_defined() {
    let (image, boot) = (image(), boot());
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    plan.commit(Method::Copy, &memory).unwrap();
    let page = memory.bytes(plan.placement().start_info, 4096);
    assert!(!page.contains(&common::POISON));
    assert_eq!(page[4000..], [0; 96]);
}

#[test]
fn a_file_is_read_in_pieces() {
    let (image, boot) = (image(), boot());
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    plan.commit(Method::Copy, &memory).unwrap();
    let longest = memory.writes().iter().map(|write| write.len_bytes).max();
    assert_eq!(longest, Some(256 << 10));
}

#[test]
fn memory_that_owns_its_bytes_holds_the_same() {
    let (image, boot) = (image(), boot());
    let recorder = Recorder::new(&ram());
    let owner = VecMemory::zeroed(&[(Gpa(0), 16 * MIB)]).unwrap();
    let plan = image.plan(&boot).unwrap();
    let loaded = plan.commit(Method::Copy, &recorder).unwrap();
    assert_eq!(plan.commit(Method::Copy, &owner).unwrap(), loaded);
    for write in &plan.placement().writes {
        let mut bytes = vec![1; usize::try_from(write.range.len_bytes).unwrap()];
        owner.read(write.range.start, &mut bytes).unwrap();
        assert!(
            bytes == recorder.bytes(write.range.start, write.range.len_bytes),
            "{write:?}"
        );
    }
}

#[test]
fn an_image_in_memory_and_one_in_a_file_are_loaded_alike() {
    let boot = boot();
    let in_memory = Image::from_bytes(kernel()).unwrap();
    let (a, b) = (Recorder::new(&ram()), Recorder::new(&ram()));
    let plan_a = in_memory.plan(&boot).unwrap();
    let in_file = image();
    let plan_b = in_file.plan(&boot).unwrap();
    assert_eq!(plan_a.placement(), plan_b.placement());
    plan_a.commit(Method::Copy, &a).unwrap();
    plan_b.commit(Method::Copy, &b).unwrap();
    assert!(a.bytes(Gpa(0), 4 * MIB) == b.bytes(Gpa(0), 4 * MIB));
}

#[test]
fn every_generation_is_built() {
    for (generation, version) in [
        (Generation::Draft, None),
        (Generation::V0, Some(0)),
        (Generation::V1, Some(1)),
    ] {
        let image = image();
        let mut boot = Boot {
            generation,
            ..boot()
        };
        boot.modules[0].cmdline = None;
        let memory = Recorder::new(&ram());
        let plan = image.plan(&boot).unwrap();
        plan.commit(Method::Copy, &memory).unwrap();
        let fetch = |at, buf: &mut [u8]| memory.read(at, buf);
        let info = read(generation, plan.placement().start_info, fetch).unwrap();
        assert_eq!(info.version, version);
        assert_eq!(info.modules(10, fetch).unwrap().count(), 3);
        assert_eq!(info.rsdp.is_some(), generation != Generation::Draft);
        assert_eq!(
            info.memmap(10, fetch).unwrap().count(),
            2 * usize::from(version == Some(1))
        );
    }
}

#[test]
fn a_draft_cannot_give_a_module_its_command_line() {
    let boot = Boot {
        generation: Generation::Draft,
        ..boot()
    };
    assert!(matches!(image().plan(&boot), Err(PlanError::StartInfo(_))));
}

#[test]
fn a_boot_that_wraps_is_refused_before_anything_else() {
    let mut wrapping = memmap();
    wrapping[1].len_bytes = u64::MAX;
    let map = Boot {
        memmap: wrapping,
        ..boot()
    };
    let error = image().plan(&map).unwrap_err();
    assert!(
        matches!(
            error,
            PlanError::RangeWraps {
                list: "memory map",
                ..
            }
        ),
        "{error}"
    );
    let reserved = vec![GuestRange::new(Gpa(u64::MAX), 1)];
    let boot = Boot { reserved, ..boot() };
    let error = image().plan(&boot).unwrap_err();
    assert!(
        matches!(
            error,
            PlanError::RangeWraps {
                list: "reserved ranges",
                ..
            }
        ),
        "{error}"
    );
}

/// A map entry that is not RAM hides the RAM under it, as libxl's map has it for the low RSDP.
#[test]
fn reserved_ranges_other_map_entries_and_the_rsdp_are_left_alone() {
    let kinds = [
        MemmapKind::RESERVED,
        MemmapKind::ACPI,
        MemmapKind::NVS,
        MemmapKind(77),
    ];
    let entries = kinds.into_iter().enumerate().map(|(n, kind)| MemmapRange {
        start: Gpa(2 * MIB + 0x1000 * (1 + n as u64)),
        len_bytes: 1,
        kind,
    });
    let boot = Boot {
        memmap: memmap().into_iter().chain(entries).collect(),
        reserved: vec![GuestRange::new(Gpa(2 * MIB + 0x5001), 0xFFF)],
        rsdp: Some(Gpa(2 * MIB + 0x6FE0)), // 36 bytes, to 4 bytes into the next page
        ..Boot::default()
    };
    assert_eq!(
        image().plan(&boot).unwrap().placement().start_info,
        Gpa(2 * MIB + 0x8000)
    );
}

#[test]
fn a_memory_map_that_the_guest_does_not_get_is_used_for_the_plan() {
    let boot = Boot {
        memmap_rule: MemmapRule::Omit,
        ..boot()
    };
    let image = image();
    let memory = Recorder::new(&ram());
    let plan = image.plan(&boot).unwrap();
    plan.commit(Method::Copy, &memory).unwrap();
    let fetch = |at, buf: &mut [u8]| memory.read(at, buf);
    let info = read(Generation::V1, plan.placement().start_info, fetch).unwrap();
    assert_eq!(
        (info.memmap_table.paddr, info.memmap_table.entries),
        (None, 0)
    );
}

#[test]
fn a_failed_load_leaves_guest_memory_untouched() {
    let (image, boot) = (image(), boot());
    let plan = image.plan(&boot).unwrap();
    let end = plan.placement().start_info;
    for len_bytes in [0, MIB + 50, 2 * MIB + 50, end.0 + 4095] {
        let memory = Recorder::new(&[GuestRange::new(Gpa(0), len_bytes)]);
        let error = plan.commit(Method::Copy, &memory).unwrap_err();
        assert!(matches!(error, CommitError::NotRam { .. }), "{error:?}");
        assert!(error.memory_untouched(), "{error:?}");
        assert_eq!(memory.writes(), [], "{error:?}");
    }
}

#[test]
fn the_lowest_write_that_has_no_ram_is_named() {
    let (image, boot) = (image(), boot());
    let plan = image.plan(&boot).unwrap();
    let memory = Recorder::new(&[GuestRange::new(Gpa(0), 2 * MIB + 50)]);
    let error = plan.commit(Method::Copy, &memory).unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment 1: the guest memory has no RAM for all of 0x200000..0x200064"
    );
}

#[test]
fn a_command_line_with_a_nul_is_refused_by_the_plan() {
    let mut boot = boot();
    boot.cmdline[3] = 0;
    let image = image();
    assert!(matches!(image.plan(&boot), Err(PlanError::StartInfo(_))));
}

#[test]
fn a_file_that_changed_its_length_is_found_before_the_first_write() {
    for len in [600_000, 600_002, 0] {
        let (image, mut boot) = (image(), boot());
        let file = file_of(&numbers(600_001));
        boot.modules[0] = ModuleSource::from_file(file.try_clone().unwrap()).unwrap();
        let plan = image.plan(&boot).unwrap();
        let memory = Recorder::new(&ram());
        file.set_len(len).unwrap();
        let error = plan.commit(Method::Copy, &memory).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("module 0 had 600001 bytes when it was opened and has {len} now")
        );
        assert!(error.memory_untouched() && memory.writes().is_empty());
    }
}

#[test]
fn an_image_that_became_shorter_is_found_before_the_first_write() {
    let file = file_of(&kernel());
    let image = Image::from_file(file.try_clone().unwrap(), &Default::default()).unwrap();
    let boot = boot();
    let plan = image.plan(&boot).unwrap();
    let ends = plan
        .placement()
        .writes
        .iter()
        .filter_map(|write| match write.kind {
            WriteKind::Segment { file_offset, .. } => Some(file_offset + write.range.len_bytes),
            _ => None,
        });
    let memory = Recorder::new(&ram());
    file.set_len(ends.max().unwrap() - 1).unwrap();
    let error = plan.commit(Method::Copy, &memory).unwrap_err();
    assert!(matches!(error, CommitError::ImageChanged(_)), "{error:?}");
    assert!(error.memory_untouched() && memory.writes().is_empty());
}

/// No check before the first write can find this failure.
#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error_that_says_so() {
    let (image, mut boot) = (image(), boot());
    let file = file_of(&numbers(600_001));
    boot.modules[0] = ModuleSource::from_file(file.try_clone().unwrap()).unwrap();
    let plan = image.plan(&boot).unwrap();
    let mut memory = Recorder::new(&ram());
    memory.before_write = Some(Box::new(move || file.set_len(300_000).unwrap()));
    let error = plan.commit(Method::Copy, &memory).unwrap_err();
    assert!(
        matches!(error, CommitError::ReadModule { index: 0, .. }),
        "{error:?}"
    );
    assert!(!error.memory_untouched());
    assert_eq!(
        memory.bytes(plan.placement().start_info, 4),
        [common::POISON; 4]
    );
}

#[test]
fn a_memory_that_fails_at_any_write_ends_the_load_there() {
    let (image, boot) = (image(), boot());
    let plan = image.plan(&boot).unwrap();
    let planned = planned(plan.placement());
    let whole = Recorder::new(&ram());
    plan.commit(Method::Copy, &whole).unwrap();
    for number in 0..whole.writes().len() {
        let mut memory = Recorder::new(&ram());
        memory.fails_at = Some(number);
        let error = plan.commit(Method::Copy, &memory).unwrap_err();
        assert!(matches!(error, CommitError::Memory { .. }), "{error:?}");
        assert!(!error.memory_untouched());
        assert_eq!(memory.writes().len(), number);
        for write in memory.writes() {
            let inside = |plan: &GuestRange| {
                plan.contains(write.start) && write.end().unwrap() <= plan.end().unwrap()
            };
            assert!(planned.iter().any(inside), "{write} was not planned");
        }
    }
}

/// Loads into 16 MiB a kernel of `len` bytes at `at`; returns ESP.
fn esp(at: u64, len: usize, stack_top: Option<Gpa>) -> u64 {
    let elf = Elf::new(Class::Elf32)
        .segment(Segment::load(at, numbers(len)))
        .segment(Segment::notes(&[Note::entry(u32::try_from(at).unwrap())]));
    let image = Image::from_bytes(elf.build()).unwrap();
    let boot = Boot {
        memmap: memmap(),
        stack_top,
        ..Boot::default()
    };
    let memory = VecMemory::zeroed(&[(Gpa(0), 16 * MIB)]).unwrap();
    let loaded = image.plan(&boot).unwrap().commit(Method::Copy, &memory);
    loaded.unwrap().entry.rsp
}

#[test]
fn esp_is_the_top_of_the_first_stack() {
    assert_eq!(esp(MIB, 100, None), 0);
    assert_eq!(esp(MIB, 100, Some(Gpa(0xA_0000))), 0xA_0000);
}

#[test]
fn a_stack_in_the_kernel_or_outside_memory_is_dropped() {
    let stack = Some(Gpa(0xA_0000));
    assert_eq!(esp(0x9_0000, 0xF001, stack), 0);
    assert_eq!(esp(0x9_0000, 0xF000, stack), 0xA_0000);
    assert_eq!(esp(0xA_0000, 100, stack), 0xA_0000);
    for outside in [0, 0x800, 16 * MIB + 0x1000, 1 << 32, u64::MAX] {
        assert_eq!(esp(MIB, 100, Some(Gpa(outside))), 0, "{outside:#x}");
    }
    assert_eq!(esp(MIB, 100, Some(Gpa(16 * MIB))), 16 * MIB);
}

#[test]
fn nothing_is_placed_in_the_first_stack() {
    let image = Image::from_bytes(kernel()).unwrap();
    let ram = |start, len_bytes| MemmapRange {
        start: Gpa(start),
        len_bytes,
        kind: MemmapKind::RAM,
    };
    let boot = |low_start| Boot {
        memmap: vec![
            ram(low_start, 0xA_0000 - low_start),
            ram(MIB, 9000_u64.next_multiple_of(0x1000)),
            ram(2 * MIB, 0x1000),
        ],
        stack_top: Some(Gpa(0xA_0000)),
        ..Boot::default()
    };
    let below = boot(0x9_E000);
    assert_eq!(
        image.plan(&below).unwrap().placement().start_info,
        Gpa(0x9_E000)
    );
    let none = boot(0x9_F000);
    assert!(image.plan(&none).is_err());
}
