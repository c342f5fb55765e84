//! What broke other loaders, one test for each item of the list, from the file to the written guest
//! memory. Each says what Xen does (libelf, libxenguest or the dom0 builder) and what we do, with the reason
//! where we are stricter; docs/decisions/0010 has the reasons together.
//!
//! The details of items 14, 15 and 17, which are about files, are in `image/regression.rs`. Items 21, 22
//! and 24 are not about loading.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the numbers are small, and a test may stop"
)]

use std::{fs::File, os::unix::fs::FileExt};

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::{
    Image, ImageError,
    commit::{Loaded, commit},
    layout::GuestRange,
    plan::{Boot, Fix, LoadPlan, MemmapRule, ModuleSource, PlanError, plan},
};
use pvh_memory::GuestMemory;
use pvh_start_info::{Generation, MemmapRange, StartInfo, read, read_cmdline};
use pvh_testkit::elf::{Class, Elf, Endian, Note, Section, Segment, note_area};

mod common;
#[path = "image/pack.rs"]
mod pack;

use common::{Recorder, planned};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const ENTRY: u32 = 0x10_0000;

/// XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;

#[derive(Debug)]
enum Refused {
    Image(ImageError),
    Plan(PlanError),
}

/// A guest that was loaded.
struct Guest {
    plan: LoadPlan,
    loaded: Loaded,
    memory: Recorder,
}

impl Guest {
    fn start_info(&self) -> StartInfo {
        read(Generation::V1, self.plan.start_info, self.fetch()).unwrap()
    }

    fn fetch(&self) -> impl Fn(Gpa, &mut [u8]) -> Result<(), pvh_memory::MemoryError> {
        |at, buf| self.memory.read(at, buf)
    }

    /// Address and length of each module, as the guest finds them.
    fn modules(&self) -> Vec<(Gpa, u64)> {
        let modules = self.start_info().modules(1000, self.fetch()).unwrap();
        let modules = modules.map(Result::unwrap);
        modules
            .map(|module| (module.paddr, module.size_bytes))
            .collect()
    }
}

fn ram(start: u64, end: u64) -> MemmapRange {
    let kind = MemmapKind::RAM;
    MemmapRange {
        start: Gpa(start),
        len_bytes: end - start,
        kind,
    }
}

/// 64 MiB of RAM and nothing else.
fn boot() -> Boot {
    Boot {
        memmap: vec![ram(0, 64 * MIB)],
        ..Boot::default()
    }
}

/// Loads `file` into poisoned memory, and checks that exactly what was planned was written.
fn load_with(file: Vec<u8>, boot: &Boot) -> Result<Guest, Refused> {
    let image = Image::from_bytes(file).map_err(Refused::Image)?;
    let plan = plan(&image, boot).map_err(Refused::Plan)?;
    let rams = boot
        .memmap
        .iter()
        .filter(|entry| entry.kind == MemmapKind::RAM);
    let rams: Vec<_> = rams
        .map(|ram| GuestRange::new(ram.start, ram.len_bytes))
        .collect();
    let memory = Recorder::new(&rams);
    let loaded = commit(&plan, &image, boot, &memory).unwrap();
    assert_eq!(memory.written(), planned(&plan));
    Ok(Guest {
        plan,
        loaded,
        memory,
    })
}

fn load(elf: &Elf) -> Result<Guest, Refused> {
    load_with(elf.build(), &boot())
}

/// The entry of the loaded guest.
fn entry(elf: &Elf) -> Result<u64, Refused> {
    load(elf).map(|guest| guest.loaded.entry.rip)
}

fn plan_error(elf: &Elf, boot: &Boot) -> PlanError {
    match load_with(elf.build(), boot) {
        Err(Refused::Plan(error)) => error,
        Err(Refused::Image(error)) => panic!("refused as an image: {error:?}"),
        Ok(guest) => panic!("taken: {:?}", guest.plan),
    }
}

/// 64 KiB of code at 1 MiB, in which any entry below lies, and no note.
fn without_notes() -> Elf {
    Elf::new(Class::Elf64).segment(Segment::load(MIB, vec![0xF4; 64 << 10]))
}

fn with_notes(notes: &[Note]) -> Elf {
    without_notes().segment(Segment::notes(notes))
}

fn foreign() -> Note {
    Note::new("GNU", 3, vec![7; 20])
}

/// libelf: the last Xen entry note wins, and a segment without one changes nothing. So here.
#[test]
fn item_01_the_xen_note_is_found_in_any_of_two_note_segments() {
    let xen = |entry| Segment::notes(&[Note::entry(entry)]);
    let other = || Segment::notes(&[foreign()]);
    let first = without_notes().segment(xen(0x10_0004)).segment(other());
    assert_eq!(entry(&first).unwrap(), 0x10_0004);
    let last = without_notes().segment(other()).segment(xen(0x10_0008));
    assert_eq!(entry(&last).unwrap(), 0x10_0008);
    let both = without_notes()
        .segment(xen(0x10_0004))
        .segment(xen(0x10_0008));
    assert_eq!(entry(&both).unwrap(), 0x10_0008);
}

/// libelf: sections are searched when no segment has a Xen note. So here.
#[test]
fn item_02_a_note_in_a_section_is_found_without_a_note_segment() {
    for class in Class::ALL {
        let elf = Elf::new(class)
            .segment(Segment::load(MIB, vec![0xF4; 16]))
            .section(Section::notes(".note.Xen", &[Note::entry(0x10_0004)]));
        assert_eq!(entry(&elf).unwrap(), 0x10_0004);
    }
}

/// libelf: only notes of the name "Xen" count. So here.
#[test]
fn item_03_a_foreign_note_of_type_18_is_not_the_entry() {
    let foreign = Note::new("NetBSD", PHYS32_ENTRY, 0x10_0004_u32.to_le_bytes());
    let elf = with_notes(&[foreign.clone(), Note::entry(0x10_0008)]);
    assert_eq!(entry(&elf).unwrap(), 0x10_0008);
    let elf = with_notes(&[Note::entry(0x10_0008), foreign.clone()]);
    assert_eq!(entry(&elf).unwrap(), 0x10_0008);
    let only = entry(&with_notes(&[foreign]));
    assert!(
        matches!(only, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{only:?}"
    );
}

/// libelf: name and descriptor are padded to 4 bytes, whatever the segment's alignment. Where 8 bytes were meant,
/// it finds a note elsewhere or none, and refuses. So here: one rule, Xen's, so that an image boots here when
/// it boots there.
#[test]
fn item_04_notes_are_padded_to_four_bytes() {
    let entry_of =
        |bytes: Vec<u8>| entry(&without_notes().segment(Segment::note_bytes(bytes).align(8)));
    let xen = || note_area(&[Note::entry(0x10_0004)]);
    let after = |foreign_len: usize, padding: usize| {
        let foreign = Note::new("GNU", 3, vec![7; foreign_len]);
        [note_area(&[foreign]), vec![0; padding], xen()].concat()
    };
    assert_eq!(entry_of([xen(), vec![0; 4]].concat()).unwrap(), 0x10_0004);
    assert_eq!(entry_of(after(5, 0)).unwrap(), 0x10_0004); // 24 bytes: both rules agree
    assert_eq!(entry_of(after(20, 0)).unwrap(), 0x10_0004); // 36 bytes
    let lost = entry_of(after(20, 4)); // to 40 bytes
    assert!(
        matches!(lost, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{lost:?}"
    );
    // The name padded to 8 as well: the first half of the padding is read as the entry, and 0 is no entry.
    let wide_name = entry(&with_notes(&[Note::entry(0x10_0004).pad_to(8)]));
    let outside = PlanError::EntryOutside {
        entry: 0,
        image: GuestRange::new(Gpa(MIB), 64 << 10),
    };
    assert!(
        matches!(wide_name, Err(Refused::Plan(error)) if error == outside),
        "{wide_name:?}"
    );
}

/// libelf compares up to a NUL, wherever it lies, and so takes "Xen" of 3 bytes when a zero pads it, and
/// nothing that goes on after it. So here, but that the NUL must lie in the name and its padding.
#[test]
fn item_05_a_name_without_a_nul_is_taken_only_if_its_padding_ends_it() {
    let entry_of = |name: &[u8], pad_byte| {
        let mut note = Note::entry(0x10_0004).pad_byte(pad_byte);
        note.name = name.to_vec();
        entry(&with_notes(&[note]))
    };
    assert_eq!(entry_of(b"Xen", 0).unwrap(), 0x10_0004);
    for (name, pad_byte) in [
        (&b"Xen"[..], b'!'),
        (b"Xen!", 0),
        (b"Xenon", 0),
        (b"Xe", 0),
        (b"", 0),
    ] {
        let refused = entry_of(name, pad_byte);
        assert!(
            matches!(refused, Err(Refused::Image(ImageError::NoEntry { .. }))),
            "{name:?}: {refused:?}"
        );
    }
}

/// libelf drops the high half and boots. Stricter: an entry above 4 GiB cannot be what was meant, and what
/// is left of it is an accident.
#[test]
fn item_06_an_entry_with_a_high_half_is_refused() {
    assert_eq!(
        entry(&with_notes(&[Note::entry64(0x10_0004)])).unwrap(),
        0x10_0004
    );
    for high in [0x1_0010_0004, 0xFFFF_FFFF_8010_0004, 1 << 63] {
        let refused = entry(&with_notes(&[Note::entry64(high)]));
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "{high:#x}: {refused:?}"
        );
    }
}

/// libelf reads 1, 2, 4 and 8 bytes, and takes any other size for the number 0, which its range check then
/// refuses. So here, with the size for a reason.
#[test]
fn item_07_an_entry_of_1_2_4_or_8_bytes_is_read_and_no_other() {
    let elf = |len: usize| {
        let mut desc = vec![0x10; len];
        desc.iter_mut().skip(2).for_each(|byte| *byte = 0);
        // The image covers 0x10 and 0x1010.
        Elf::new(Class::Elf64)
            .segment(Segment::load(1, vec![0xF4; 0x2000]))
            .segment(Segment::notes(&[Note::xen(PHYS32_ENTRY, desc)]))
    };
    for (len, want) in [(1, 0x10), (2, 0x1010), (4, 0x1010), (8, 0x1010)] {
        assert_eq!(entry(&elf(len)).unwrap(), want, "{len} bytes");
    }
    for len in [0, 3, 9] {
        let refused = entry(&elf(len));
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "{len} bytes: {refused:?}"
        );
    }
}

/// libelf stops at a record that does not fit and finds no entry. So here, without a hang, a panic or a
/// large allocation; a sound Xen note in another segment still counts.
#[test]
fn item_08_a_note_cut_short_or_of_a_huge_size_ends_its_segment() {
    let whole = note_area(&[Note::entry(0x10_0004)]);
    for len in 1..whole.len() {
        let elf = without_notes().segment(Segment::note_bytes(&whole[..len]));
        let refused = entry(&elf);
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "cut at {len}: {refused:?}"
        );
    }
    for size in [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFD, u32::MAX] {
        for note in [
            Note::entry(0x10_0004).name_size(size),
            Note::entry(0x10_0004).desc_size(size),
        ] {
            let refused = entry(&with_notes(&[note]));
            assert!(
                matches!(refused, Err(Refused::Image(_))),
                "{size:#x}: {refused:?}"
            );
        }
        let broken = Segment::notes(&[foreign().desc_size(size)]);
        let elf = with_notes(&[Note::entry(0x10_0004)]).segment(broken);
        assert_eq!(entry(&elf).unwrap(), 0x10_0004, "{size:#x}");
    }
}

/// libelf skips such a segment. So here: at offset 0 there is the ELF header, and no note.
#[test]
fn item_09_a_note_segment_at_offset_0_is_skipped() {
    let nowhere = Segment::notes(&[Note::entry(0x10_0008)]).offset(0);
    let elf = with_notes(&[Note::entry(0x10_0004)]).segment(nowhere.clone());
    assert_eq!(entry(&elf).unwrap(), 0x10_0004);
    let refused = entry(&without_notes().segment(nowhere));
    assert!(
        matches!(refused, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{refused:?}"
    );
}

/// libelf does not look at p_align but to relocate. So here.
#[test]
fn item_10_the_alignment_of_a_segment_does_not_matter() {
    for align in [0, 1, 3, 1 << 63] {
        let elf = Elf::new(Class::Elf64)
            .segment(Segment::load(MIB + 8, vec![0xF4; 16]).align(align))
            .segment(Segment::notes(&[Note::entry(0x10_0008)]).align(align));
        assert_eq!(entry(&elf).unwrap(), 0x10_0008, "{align:#x}");
    }
}

/// libelf refuses more bytes in the file than in memory, and segments beyond RAM. It adds address and size
/// without a look at the sum, and takes overlapping segments up to twice the image's size; both are
/// refused here: the first is no range, the second has no meaning that a format defines.
#[test]
fn item_11_segments_that_cannot_be_placed_are_refused() {
    let with = |segment| {
        let note = Segment::notes(&[Note::entry(ENTRY)]);
        without_notes().segment(note).segment(segment)
    };
    let large = Segment::load(2 * MIB, vec![1; 100]).mem_size(99);
    let error = plan_error(&with(large), &boot());
    let want = PlanError::SegmentFileSize {
        index: 1,
        file_size: 100,
        mem_size: 99,
    };
    assert_eq!(error, want);
    for (at, mem_size) in [
        (2 * MIB, u64::MAX),
        (u64::MAX - 10, 100),
        (4 * GIB - 99, 100),
        (1 << 63, 1 << 63),
    ] {
        let segment = Segment::load(at, vec![1; 10]).mem_size(mem_size);
        let error = plan_error(&with(segment), &boot());
        let want = PlanError::SegmentTooHigh {
            index: 1,
            at: Gpa(at),
            mem_size,
        };
        assert_eq!(error, want);
    }
    let beyond = Segment::load(64 * MIB - 50, vec![1; 100]);
    let error = plan_error(&with(beyond), &boot());
    assert!(matches!(
        error,
        PlanError::SegmentBlocked {
            index: 1,
            at: Gpa(0x400_0000),
            ..
        }
    ));
    assert!(matches!(error.fix(), Some(Fix::MoreRam { ram_bytes }) if ram_bytes > 64 * MIB));
    let over = Segment::load(MIB + (64 << 10) - 1, vec![1; 100]);
    let error = plan_error(&with(over), &boot());
    assert_eq!(
        error,
        PlanError::SegmentsOverlap {
            first: 0,
            second: 1,
            at: Gpa(0x10_FFFF)
        }
    );
    let inside = Segment::load(MIB + 10, vec![1; 10]);
    let error = plan_error(&with(inside), &boot());
    assert_eq!(
        error,
        PlanError::SegmentsOverlap {
            first: 0,
            second: 1,
            at: Gpa(0x10_000A)
        }
    );
}

/// Xen's builders allocate around the kernel. So here, wherever the kernel lies: low memory, where peers
/// put the start info, belongs to the image if it wants it.
#[test]
fn item_11_no_segment_meets_start_info_command_line_or_module() {
    for at in [
        0,
        0x1000,
        0x6000,
        0x7000,
        0x1_0000,
        0x2_0000,
        MIB,
        17 * MIB,
        63 * MIB,
    ] {
        let entry = u32::try_from(at).unwrap();
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(at, vec![0xF4; 0x4_0000]))
            .segment(Segment::notes(&[Note::entry(entry)]));
        let boot = Boot {
            cmdline: vec![b'x'; 3000],
            modules: vec![ModuleSource::from_bytes(vec![9; 5000])],
            ..boot()
        };
        let guest = load_with(elf.build(), &boot).unwrap(); // it has compared what was written with the plan
        assert!(
            guest
                .memory
                .bytes(Gpa(at), 0x4_0000)
                .iter()
                .all(|&byte| byte == 0xF4),
            "{at:#x}"
        );
        let [(module, 5000)] = guest.modules()[..] else {
            panic!()
        };
        assert!(
            guest
                .memory
                .bytes(module, 5000)
                .iter()
                .all(|&byte| byte == 9),
            "{at:#x}"
        );
    }
}

/// Xen counts a segment without bytes in the file as part of the image. So here: the module lies above it.
#[test]
fn item_12_a_module_lies_above_a_bss_that_has_no_bytes_in_the_file() {
    let bss = Segment::load(4 * MIB, Vec::new()).mem_size(3 * MIB + 1);
    let boot = Boot {
        modules: vec![ModuleSource::from_bytes(vec![9; 10])],
        ..boot()
    };
    let guest = load_with(
        with_notes(&[Note::entry(ENTRY)]).segment(bss).build(),
        &boot,
    )
    .unwrap();
    assert_eq!(guest.modules(), [(Gpa(7 * MIB + 0x1000), 10)]);
    let bss = guest.memory.bytes(Gpa(4 * MIB), 3 * MIB + 1);
    assert!(bss.iter().all(|&byte| byte == 0));
}

/// libelf takes an entry anywhere from the first segment's start to the last one's end, that end included.
/// Stricter: it must be a byte of a segment, because in a gap or after the end there is nothing to run. An
/// entry in the bss is one and is taken, as libelf does.
#[test]
fn item_13_the_entry_must_lie_in_a_segment() {
    let elf = |entry| {
        with_notes(&[Note::entry(entry)])
            .segment(Segment::load(2 * MIB, vec![1; 16]).mem_size(0x1000))
    };
    for inside in [0x10_0000, 0x10_FFFF, 0x20_0000, 0x20_0010, 0x20_0FFF] {
        assert_eq!(entry(&elf(inside)).unwrap(), u64::from(inside));
    }
    for outside in [0, 0xF_FFFF, 0x11_0000, 0x1F_FFFF, 0x20_1000, 0xFFFF_FFFE] {
        let error = plan_error(&elf(outside), &boot());
        assert!(
            matches!(error, PlanError::EntryOutside { entry, .. } if entry == outside),
            "{outside:#x}: {error:?}"
        );
    }
}

/// libelf refuses a table that is not in the file, and takes one that is, of any length. So here.
#[test]
fn item_14_a_program_header_table_is_taken_only_if_all_of_it_is_in_the_file() {
    for class in Class::ALL {
        let short = Elf::bootable(class, ENTRY).with_header(|h| h.segment_count = Some(65_535));
        let refused = entry(&short);
        assert!(
            matches!(refused, Err(Refused::Image(ImageError::Elf { .. }))),
            "{refused:?}"
        );
        let mut long = Elf::bootable(class, ENTRY);
        let page = |n: u64| Segment::load(2 * MIB + n * 32, Vec::new()).mem_size(16);
        long.segments.extend((2..65_535).map(page));
        let guest = load(&long).unwrap();
        assert_eq!(guest.plan.writes.len(), 65_535);
    }
}

/// libelf looks at neither machine nor type, and reads either byte order. Stricter for the first two: no
/// code for another machine, and no big-endian code, runs on x86. A type is only a name, and is taken.
#[test]
fn item_15_what_is_not_code_for_x86_is_refused() {
    let xtf = Elf::bootable(Class::Elf32, ENTRY).machine(62);
    assert_eq!(entry(&xtf).unwrap(), u64::from(ENTRY));
    let bootable = || Elf::bootable(Class::Elf64, ENTRY);
    for kind in [1, 3] {
        assert_eq!(
            entry(&bootable().kind(kind)).unwrap(),
            u64::from(ENTRY),
            "type {kind}"
        );
    }
    for elf in [bootable().machine(183), bootable().endian(Endian::Big)] {
        let refused = entry(&elf);
        assert!(matches!(refused, Err(Refused::Image(_))), "{refused:?}");
    }
}

/// The dom0 builder's rule for PHYS32_RELOC, which the domU builder does not read: only when the place is
/// taken, the highest start that is aligned, at min or above, and ends at max or below. So here; what
/// the note says is not judged before it is needed, as Xen does not.
#[test]
fn item_16_a_relocatable_image_moves_when_its_place_is_taken() {
    let elf = |words: &[u32]| {
        Elf::new(Class::Elf64)
            .segment(Segment::load(16 * MIB, vec![0xF4; 16]).align(0x40_0000))
            .segment(Segment::notes(&[
                Note::entry(0x100_0004),
                Note::reloc(words),
            ]))
    };
    let bad = [&[0][..], &[3], &[0x1000, 0x200_0000, 0x100_0000]];
    for words in [
        &[][..],
        &[0x1000],
        &[0x1000, 0x100_0000],
        &[0x1000, 0, 0x3FFF_FFFF],
    ]
    .into_iter()
    .chain(bad)
    {
        assert_eq!(entry(&elf(words)).unwrap(), 0x100_0004, "{words:x?}");
    }
    let taken = || Boot {
        reserved: vec![GuestRange::new(Gpa(16 * MIB), 1)],
        ..boot()
    };
    for (words, want) in [
        (&[][..], 0x3C0_0000), // the segment's alignment
        (&[0x1000], 0x3FF_F000),
        (&[0x20_0000, 0x100_0000], 0x3E0_0000),
        (&[0x1000, 0, 0x1FF_FFFF], 0x1FF_F000),
        (&[0x10_0000, 0x80_0000, 0xFF_FFFF], 0xF0_0000),
    ] {
        let guest = load_with(elf(words).build(), &taken()).unwrap();
        assert_eq!(guest.loaded.entry.rip, want + 4, "{words:x?}");
        assert_eq!(guest.memory.bytes(Gpa(want), 16), [0xF4; 16], "{words:x?}");
    }
    for (words, align) in [(0, 0), (3, 3), (0x20_0001, 0x20_0001)] {
        let error = plan_error(&elf(&[words]), &taken());
        assert_eq!(error, PlanError::RelocationAlign { align });
    }
    for words in [&[0x1000, 0x200_0000, 0x100_0000][..], &[0x1000, 0x400_0000]] {
        let error = plan_error(&elf(words), &taken());
        assert!(
            matches!(error, PlanError::RelocationNoRoom { .. }),
            "{error:?}"
        );
    }
    let fixed = plan_error(&Elf::bootable(Class::Elf64, 0x100_0000), &taken());
    assert!(
        matches!(fixed, PlanError::SegmentBlocked { index: 0, .. }),
        "{fixed:?}"
    );
}

/// libxenguest boots each of these. So here: a packed kernel and the same one unpacked are one guest.
#[test]
fn item_17_a_bzimage_of_each_codec_boots_as_its_kernel_does() {
    let plain = load_with(pack::elf(), &boot()).unwrap();
    let end = plain.plan.kernel.end().unwrap().0;
    for codec in pack::CODECS {
        let file = pack::bzimage(&pack::payload(codec, &pack::elf()));
        let guest = load_with(file, &boot()).unwrap();
        assert_eq!(
            (&guest.plan.kernel, guest.loaded),
            (&plain.plan.kernel, plain.loaded)
        );
        let kernel = guest.memory.bytes(Gpa(MIB), end - MIB);
        assert!(
            kernel == plain.memory.bytes(Gpa(MIB), end - MIB),
            "{codec:?}"
        );
    }
    let nested = pack::gzip(&pack::bzimage(&pack::payload(
        pvh_loader::image::Codec::Gzip,
        &pack::elf(),
    )));
    assert_eq!(load_with(nested, &boot()).unwrap().loaded, plain.loaded);
}

/// Xen has no limit. Stricter: Linux copies the map into a table of 128 entries without a look at the count
/// and adds one, so that more than 127 are refused unless the caller knows its guest. A map without RAM
/// leaves no place for anything; a start info without a map is made when that is asked for.
#[test]
fn item_18_a_memory_map_has_from_1_to_127_entries_unless_told_otherwise() {
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

/// Xen's builders take 2 modules, and module command lines of 1023 bytes. Here any number and length, each
/// page-aligned, with its exact size; without modules there is no table, because FreeBSD stops at one.
#[test]
fn item_19_modules_of_any_number_and_size_are_told_exactly() {
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

/// Xen's builders find room where nothing is. So here, to the last page of RAM; a reserved range and the
/// pages from 0 on, where OSv and Xen write before they look, are never used.
#[test]
fn item_20_the_start_info_lies_in_free_ram_and_never_in_the_low_pages() {
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

/// Xen places a module of 3 GiB when there is RAM below 4 GiB. So here, from a file, without reading it into
/// our own memory. What cannot lie below 4 GiB is refused: guests pass address and size in 32 bits.
#[test]
fn item_23_an_initrd_of_3_gib_is_loaded_and_one_above_4_gib_refused() {
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
