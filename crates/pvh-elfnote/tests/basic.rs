//! What sound files say.

use pvh_elfnote::{
    Class, Features, Header, NoteWalk, Origin, PhysReloc, ScanError, Source, XenNotes, scan,
};
use pvh_testkit::elf::{Class as Width, Elf, Note, Section, Segment};

/// An image with one segment to load and one of these notes.
fn image(notes: &[Note]) -> Elf {
    Elf::new(Width::Elf64)
        .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
        .segment(Segment::notes(notes))
}

fn notes(notes: &[Note]) -> Result<XenNotes, ScanError> {
    scan(&image(notes).build())
}

#[test]
fn both_classes_have_an_entry() {
    for width in Width::ALL {
        let notes = scan(&Elf::bootable(width, 0x20_0000).build()).expect("bootable");
        assert_eq!(notes.require_entry(), Ok(0x20_0000), "{width:?}");
        assert_eq!((notes.count, notes.foreign_count), (1, 0));
        assert_eq!(notes.origin, Origin::Segments);
    }
}

#[test]
fn type_and_machine_are_recorded_not_judged() {
    for (kind, machine) in [(0, 0), (1, 62), (3, 3), (0xffff, 183)] {
        let file = Elf::bootable(Width::Elf32, 0x10_0000)
            .kind(kind)
            .machine(machine)
            .entry(0xffff_8000)
            .build();
        let header = Header::read(file.as_slice()).expect("sound");
        assert_eq!((header.kind, header.machine), (kind, machine));
        assert_eq!((header.class, header.entry), (Class::Elf32, 0xffff_8000));
        assert!(scan(&file).is_ok(), "type {kind}, machine {machine}");
    }
}

#[test]
fn program_headers_are_read_in_both_classes() {
    for width in Width::ALL {
        let load = Segment::load(0x1_0000, vec![1; 32])
            .flags(5)
            .mem_size(0x4000)
            .align(0x20_0000)
            .with(|segment| segment.vaddr = 0xc001_0000);
        let elf = Elf::new(width).segment(load);
        let (file, layout) = elf.build_with_layout();
        let file = file.as_slice();
        let header = Header::read(file).expect("sound");
        let all: Result<Vec<_>, _> = header.segments(file).collect();
        let all = all.expect("the table is in the file");
        let [load] = all[..] else {
            panic!("{all:?} is not one segment")
        };
        assert_eq!((load.kind, load.flags, load.align), (1, 5, 0x20_0000));
        assert_eq!((load.vaddr, load.paddr), (0xc001_0000, 0x1_0000));
        assert_eq!((load.file_size, load.mem_size), (32, 0x4000));
        assert_eq!(load.offset, layout.segments[0]);
        assert!(load.is_load() && !load.is_note());
    }
}

#[test]
fn section_headers_are_read_in_both_classes() {
    for width in Width::ALL {
        let section = Section::note_bytes(".note", [0; 24]).with(|section| {
            section.flags = 2;
            section.addr = 0x1234;
        });
        let (file, layout) = Elf::new(width).section(section).build_with_layout();
        let file = file.as_slice();
        let header = Header::read(file).expect("sound");
        assert_eq!(header.sections.count, 3);
        let note = header.section(file, 1).expect("it has three");
        assert_eq!((note.kind, note.flags, note.addr), (7, 2, 0x1234));
        assert_eq!((note.offset, note.size), (layout.sections[0], 24));
        assert_eq!((note.align, note.is_note()), (4, true));
        assert_eq!(header.section_headers(file).count(), 3);
    }
}

/// 6.12.117 of Debian: the entry has 8 bytes, FEATURES has no NUL, foreign notes stand between.
#[test]
fn a_stock_linux_6_12_is_read() {
    let found = notes(&[
        Note::new(*b"Linux\0", 257, [1, 0, 0, 0]),
        Note::new(*b"Linux\0", 256, *b"6.12.117+deb12-cloud-amd64\0"),
        Note::reloc(&[0x20_0000, 0x100_0000, 0x3fff_ffff]),
        Note::entry64(0x100_0a30),
        Note::xen(6, *b"linux\0"),
        Note::xen(7, *b"2.6\0"),
        Note::xen(5, *b"xen-3.0\0"),
        Note::xen(3, 0xffff_ffff_8000_0000_u64.to_le_bytes()),
        Note::xen(15, 0x80_0000_0000_u64.to_le_bytes()),
        Note::xen(1, 0xffff_ffff_8332_9600_u64.to_le_bytes()),
        Note::xen(10, *b"!writable_page_tables"),
        Note::xen(9, *b"yes\0"),
        Note::xen(13, [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        Note::xen(16, [1, 0, 0, 0]),
        Note::xen(4, [0; 8]),
        Note::xen(17, 0x8001_u32.to_le_bytes()),
        Note::xen(8, *b"generic\0"),
        Note::xen(14, [1, 0, 0, 0]),
        Note::new(*b"GNU\0", 3, [0xab; 20]),
    ])
    .expect("Debian boots it");
    assert_eq!(found.entry, Some(0x100_0a30));
    let reloc = PhysReloc {
        align: Some(0x20_0000),
        min: 0x100_0000,
        max: 0x3fff_ffff,
    };
    assert_eq!(found.reloc, Some(reloc));
    let texts = [
        (found.guest_os, "linux"),
        (found.guest_version, "2.6"),
        (found.xen_version, "xen-3.0"),
        (found.loader, "generic"),
        (found.pae_mode, "yes"),
    ];
    for (text, want) in texts {
        assert_eq!(text.expect("it is there"), want);
    }
    assert_eq!(found.virt_base, Some(0xffff_ffff_8000_0000));
    assert_eq!(found.init_p2m, Some(0x80_0000_0000));
    assert_eq!(found.virt_entry, Some(0xffff_ffff_8332_9600));
    assert_eq!(
        (found.suspend_cancel, found.mod_start_pfn),
        (Some(1), Some(1))
    );
    assert_eq!((found.paddr_offset, found.hypercall_page), (Some(0), None));
    assert_eq!((found.count, found.foreign_count), (16, 3));
    assert_eq!(found.required_features, Features::WRITABLE_PAGE_TABLES);
    assert_eq!(found.supported_features, Features(0x8001));
}

#[test]
fn freebsd_grub_and_xen_write_four_bytes() {
    let freebsd = notes(&[
        Note::xen(6, *b"FreeBSD\0"),
        Note::xen(11, *b"yes\0"),
        Note::xen(12, [0; 4]),
        Note::xen(2, 0xffff_ffff_8020_0000_u64.to_le_bytes()),
        Note::entry(0x20_0000),
    ])
    .expect("a sound image");
    assert_eq!(freebsd.entry, Some(0x20_0000));
    assert_eq!(freebsd.bsd_symtab.expect("it is there"), "yes");
    assert_eq!(freebsd.hypercall_page, Some(0xffff_ffff_8020_0000));
    assert_eq!(freebsd.hv_start_low, Some(0));

    // GRUB: one note, in a segment and in a section whose name is ".xen"
    let grub = Elf::bootable(Width::Elf32, 0x10_0000)
        .section(Section::notes(".xen", &[Note::entry(0x10_0000)]));
    let grub = scan(&grub.build()).expect("a sound image");
    assert_eq!((grub.entry, grub.count), (Some(0x10_0000), 1));
}

/// XTF's hvm64 images: 64-bit code that objcopy put into an ELF32 file.
#[test]
fn code_of_64_bits_in_an_elf32_file_is_entered_like_any_other() {
    let file = Elf::bootable(Width::Elf32, 0x10_0000).machine(62).build();
    assert_eq!(
        scan(&file).expect("XTF boots").require_entry(),
        Ok(0x10_0000)
    );
}

#[test]
fn an_entry_has_1_2_4_or_8_bytes() {
    for (desc, want) in [
        (&[0x80][..], 0x80),
        (&[0x34, 0x12], 0x1234),
        (&[0x78, 0x56, 0x34, 0x12], 0x1234_5678),
        (&[0x78, 0x56, 0x34, 0xf2, 0, 0, 0, 0], 0xf234_5678),
    ] {
        let found = notes(&[Note::xen(18, desc)]).expect("a number");
        assert_eq!(found.entry, Some(want), "{desc:x?}");
    }
}

#[test]
fn the_last_duplicate_counts() {
    let found = notes(&[
        Note::xen(6, *b"one\0"),
        Note::entry(0x10_0000),
        Note::xen(16, [0; 4]),
        Note::entry64(0x20_0000),
        Note::xen(6, *b"two\0"),
        Note::xen(16, [1, 0, 0, 0]),
    ])
    .expect("sound");
    assert_eq!(found.entry, Some(0x20_0000));
    assert_eq!(found.guest_os.expect("it is there"), "two");
    assert_eq!(found.mod_start_pfn, Some(1));
    assert_eq!(found.count, 6);
}

#[test]
fn features_add_up() {
    let found = notes(&[
        Note::xen(10, *b"!writable_page_tables|dom0\0"),
        Note::xen(17, 0x8000_u32.to_le_bytes()),
        Note::xen(10, *b"hvm_callback_vector|never_heard_of"),
        Note::xen(17, [4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        Note::xen(17, [0xff; 3]),
        Note::entry(0x10_0000),
    ])
    .expect("sound");
    let supported = 1 | 1 << 11 | 1 << 15 | 1 << 8 | 1 << 2;
    assert_eq!(found.supported_features.0, supported);
    assert_eq!(found.required_features.0, 1);
    assert!(found.supported_features.contains(Features::DOM0));
    assert!(!found.required_features.contains(Features::DOM0));
}

#[test]
fn a_reloc_note_has_0_to_3_words() {
    let reloc = |align, min, max| PhysReloc { align, min, max };
    let cases: [(&[u32], PhysReloc); 5] = [
        (&[], reloc(None, 0, u32::MAX)),
        (&[0x1000], reloc(Some(0x1000), 0, u32::MAX)),
        (&[0x1000, 0x2000], reloc(Some(0x1000), 0x2000, u32::MAX)),
        (&[0x1000, 2, 3], reloc(Some(0x1000), 2, 3)),
        (&[0x1000, 2, 3, 4], reloc(Some(0x1000), 2, 3)),
    ];
    for (words, want) in cases {
        let found = notes(&[Note::entry(0), Note::reloc(words)]).expect("sound");
        assert_eq!(found.reloc, Some(want), "{words:x?}");
    }
    assert_eq!(notes(&[Note::entry(0)]).expect("sound").reloc, None);
    // a word that is not whole is not there
    let found = notes(&[Note::entry(0), Note::xen(19, [1, 0, 0, 0, 9, 9, 9])]);
    assert_eq!(
        found.expect("sound").reloc,
        Some(reloc(Some(1), 0, u32::MAX))
    );
}

#[test]
fn a_section_is_asked_only_when_no_segment_has_a_xen_note() {
    let in_section = Section::notes(".note.Xen", &[Note::entry(0x30_0000)]);
    let gnu = Segment::notes(&[Note::new(*b"GNU\0", 3, [0; 20])]);
    let found = scan(
        &Elf::new(Width::Elf64)
            .segment(gnu.clone())
            .section(in_section.clone())
            .build(),
    )
    .expect("the section has it");
    assert_eq!(found.entry, Some(0x30_0000));
    assert_eq!((found.origin, found.foreign_count), (Origin::Sections, 1));
    let shown = [Origin::Segments, Origin::Sections].map(|origin| origin.to_string());
    assert_eq!(shown, ["PT_NOTE segments", "SHT_NOTE sections"]);

    // even a Xen note of an unknown type keeps the sections out
    let unknown = Segment::notes(&[Note::xen(0x0100_0001, [])]);
    let file = Elf::new(Width::Elf64)
        .segment(gnu)
        .segment(unknown)
        .section(in_section);
    assert!(matches!(scan(&file.build()), Err(ScanError::NoEntry(_))));
}

#[test]
fn every_note_can_be_walked() {
    let file = image(&[
        Note::new(*b"GNU\0", 3, [0xab; 20]),
        Note::new(*b"OpenBSD\0", 1, [0; 3]),
        Note::entry(0x10_0000),
    ]);
    let (file, layout) = file.build_with_layout();
    let file = file.as_slice();
    let start = layout.segments[1];
    let walk = NoteWalk::new(file, start, file.len_bytes() - start);
    let all: Vec<_> = walk.map(|note| note.expect("all are sound")).collect();
    let names = all.iter().map(|note| note.name(file).expect("in memory"));
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    assert_eq!(names, ["GNU", "OpenBSD", "Xen"]);
    let offsets: Vec<_> = all.iter().map(|note| note.offset - start).collect();
    assert_eq!(offsets, [0, 12 + 4 + 20, 36 + 12 + 8 + 4]);
    assert_eq!((all[1].name_size, all[1].desc_size), (8, 3));
    assert_eq!(all[2].number(file), Ok(0x10_0000));
}
