//! Headers, placement and packing.

use super::*;

/// libelf refuses more bytes in the file than in memory, and segments beyond RAM. It adds address
/// and size without a check of the sum, and takes overlapping segments up to twice the image's
/// size. Both are refused here: the first is not a range, and no format defines the second, unless
/// only zeros overlap.
#[test]
fn segments_that_cannot_be_placed_are_refused() {
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

/// Xen's builders allocate around the kernel. This loader does the same, wherever the kernel lies:
/// low memory, where peers put the start info, belongs to the image if it wants it.
#[test]
fn no_segment_meets_start_info_command_line_or_module() {
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

/// Xen counts a segment without bytes in the file as part of the image. This loader does the same:
/// the module lies above it.
#[test]
fn a_module_lies_above_a_bss_that_has_no_bytes_in_the_file() {
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

/// libelf takes an entry anywhere from the first segment's start to the last one's end, that end
/// included. This loader is stricter: it must be a byte of a segment, because in a gap or after the
/// end there is nothing to run. An entry in the bss is one and is taken, as libelf does.
#[test]
fn the_entry_must_lie_in_a_segment() {
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

/// libelf refuses a table that is not in the file, and takes one that is, of any length. This
/// loader does the same.
#[test]
fn a_program_header_table_is_taken_only_if_all_of_it_is_in_the_file() {
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

/// libelf checks neither machine nor type, and reads either byte order. This loader is stricter
/// about the first two: no code for another machine, and no big-endian code, runs on x86. A type is
/// only a name, and is taken.
#[test]
fn code_for_another_machine_is_refused() {
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

/// The dom0 builder's rule for PHYS32_RELOC, which the domU builder does not read: only when the
/// place is taken, the highest start that is aligned, at min or above, and ends at max or below. So
/// here; what the note says is not judged before it is needed, as Xen does not.
#[test]
fn a_relocatable_image_moves_when_its_place_is_taken() {
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

/// libxenguest boots each of these. This loader does the same: a packed kernel and the same one
/// unpacked are one guest.
#[test]
fn a_bzimage_of_each_codec_boots_as_its_kernel_does() {
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
