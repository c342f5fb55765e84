//! What other loaders got wrong, one case each; the verdicts are libelf's unless the test says why
//! not.

use pvh_elfnote::{
    Class, ElfReason, FaultReason, Header, NoEntry, NoteFault, PhysReloc, ScanError, XenNotes, scan,
};
use pvh_testkit::elf::{Class as Width, Elf, Endian, Note, Section, Segment};

const FIRST: u32 = 0x10_0000;
const SECOND: u32 = 0x20_0000;

fn of(segments: &[Segment]) -> Result<XenNotes, ScanError> {
    let mut elf = Elf::new(Width::Elf64);
    elf.segments = segments.to_vec();
    scan(&elf.build())
}

fn entry(segments: &[Segment]) -> Result<Option<u32>, ScanError> {
    of(segments).map(|notes| notes.entry)
}

fn gnu() -> Segment {
    Segment::notes(&[Note::new(*b"GNU\0", 3, [0xab; 20])])
}

fn xen(value: u32) -> Segment {
    Segment::notes(&[Note::entry(value)])
}

/// Why a single note was refused.
fn fault(note: &Note) -> Option<FaultReason> {
    match of(&[Segment::notes(std::slice::from_ref(note))]) {
        Err(ScanError::NoEntry(NoEntry::Refused(NoteFault { reason, .. }))) => Some(reason),
        _ => None,
    }
}

/// Item 1: a loader that assigns its result per segment loses the note of the first.
#[test]
fn the_note_is_found_in_the_first_segment_and_in_the_last() {
    assert_eq!(entry(&[xen(FIRST), gnu(), gnu()]), Ok(Some(FIRST)));
    assert_eq!(entry(&[gnu(), gnu(), xen(FIRST)]), Ok(Some(FIRST)));
    assert_eq!(entry(&[gnu(), xen(FIRST), gnu()]), Ok(Some(FIRST)));
}

/// Item 1: with two values the last one in file order counts.
#[test]
fn of_two_segments_with_different_entries_the_last_counts() {
    assert_eq!(entry(&[xen(FIRST), xen(SECOND)]), Ok(Some(SECOND)));
    assert_eq!(entry(&[xen(SECOND), gnu(), xen(FIRST)]), Ok(Some(FIRST)));
}

/// Item 2.
#[test]
fn a_note_only_in_a_section_is_found() {
    for width in Width::ALL {
        let elf = Elf::new(width)
            .section(Section::notes(".note.gnu", &[Note::new(*b"GNU\0", 3, [])]))
            .section(Section::notes(".note.Xen", &[Note::entry(FIRST)]))
            .section(Section::notes(".note.tail", &[Note::new(*b"GNU\0", 1, [])]));
        let found = scan(&elf.build()).expect("it is in the second section");
        assert_eq!(found.entry, Some(FIRST), "{width:?}");
    }
}

/// Item 2: the null section is not looked at, whatever stands in it.
#[test]
fn a_note_in_section_0_is_not_looked_at() {
    let section = Section::notes(".note.Xen", &[Note::entry(FIRST)]);
    let elf = Elf::new(Width::Elf64).section(section);
    let (_, layout) = elf.build_with_layout();
    // the table begins one entry later, so that the notes are its entry 0
    let shifted = elf.with_header(|header| {
        header.sections_offset = Some(layout.section_table + 64);
        header.section_count = Some(2);
    });
    let error = scan(&shifted.build()).expect_err("entry 0 is not a section");
    assert_eq!(error, ScanError::NoEntry(NoEntry::NoNotes));
}

/// Item 3: three of seven loaders take the first note of type 18, whoever owns it.
#[test]
fn a_foreign_note_of_type_18_is_not_the_entry() {
    let stranger = Note::new(*b"Zen\0", 18, SECOND.to_le_bytes());
    let longer = Note::new(*b"Xenon\0", 18, SECOND.to_le_bytes());
    let own = Note::entry(FIRST);
    for order in [
        [&stranger, &longer, &own],
        [&own, &stranger, &longer],
        [&longer, &own, &stranger],
    ] {
        let found = entry(&[Segment::notes(&order.map(Clone::clone))]);
        assert_eq!(found, Ok(Some(FIRST)));
    }
}

/// Items 4 and 10: padding does not follow `p_align`, and no `p_align` is an error.
#[test]
fn padding_is_four_bytes_whatever_the_alignment_says() {
    let notes = [
        Note::new(*b"GNU\0", 3, [0xab; 20]),
        Note::new(*b"Linux\0", 257, [1, 2, 3]),
        Note::entry(FIRST),
    ];
    for align in [0, 1, 2, 3, 4, 5, 8, 16, 0x1000, 1 << 63, u64::MAX] {
        let segment = Segment::notes(&notes).align(align);
        assert_eq!(entry(&[segment]), Ok(Some(FIRST)), "p_align {align:#x}");
    }
}

/// Item 4: notes that really are padded to 8 are stepped over wrongly, by libelf too; the first one
/// is right.
#[test]
fn of_notes_padded_to_eight_bytes_the_first_is_found() {
    let wide = |note: Note| note.pad_to(8);
    // a name of 4 bytes becomes 8, so that the descriptor begins with padding: libelf reads 0 there
    let xen = Note::xen(18, FIRST.to_le_bytes());
    let name_padded = Segment::notes(&[wide(xen.clone())]).align(8);
    assert_eq!(entry(&[name_padded]), Ok(Some(0)));
    // what 64-bit tools write: 12 + 4 bytes are aligned already, only descriptors are padded
    let aligned = |note: Note| {
        let mut bytes = note.to_bytes();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let gnu = Note::new(*b"GNU\0", 5, [0; 12]);
    let first = [aligned(xen.clone()), aligned(gnu.clone())].concat();
    let first = Segment::note_bytes(first).align(8);
    assert_eq!(entry(&[first]), Ok(Some(FIRST)));
    let second = [aligned(gnu), aligned(xen)].concat();
    let second = of(&[Segment::note_bytes(second).align(8)]);
    let error = second.expect_err("the walk is four bytes short");
    assert!(
        matches!(error, ScanError::NoEntry(NoEntry::Cut(_))),
        "{error:?}"
    );
}

/// Item 5: libelf would read such a name on into what follows; here it must end in its own field.
#[test]
fn a_name_without_nul_is_foreign_unless_padding_ends_it() {
    let named = |name: &[u8]| entry(&[Segment::notes(&[Note::new(name, 18, FIRST.to_le_bytes())])]);
    assert_eq!(named(b"Xen"), Ok(Some(FIRST)));
    let foreign = Err(ScanError::NoEntry(NoEntry::NoXenNotes { foreign_count: 1 }));
    assert_eq!(named(b"XenX"), foreign);
    assert_eq!(named(b""), foreign);
}

/// Item 6: libelf drops the high half and may enter anywhere; refused here.
#[test]
fn an_eight_byte_entry_above_4_gib_is_refused() {
    let value = 1 << 32 | u64::from(FIRST);
    let refused = fault(&Note::entry64(value));
    assert_eq!(refused, Some(FaultReason::TooWide { value }));
    assert_eq!(
        entry(&[Segment::notes(&[Note::entry64(FIRST.into())])]),
        Ok(Some(FIRST))
    );
}

/// Item 7: libelf takes 0 for the odd sizes; refused here, because an entry at 0 is never meant.
#[test]
fn descriptor_sizes_0_1_2_3_4_8_9() {
    for size in [1_usize, 2, 4, 8] {
        let mut desc = vec![0; size];
        desc[0] = 0x40;
        let found = entry(&[Segment::notes(&[Note::xen(18, desc)])]);
        assert_eq!(found, Ok(Some(0x40)), "{size}");
    }
    for size in [0, 3, 9] {
        let refused = fault(&Note::xen(18, vec![0; size as usize]));
        assert_eq!(refused, Some(FaultReason::DescSize { size }));
    }
}

/// Item 8: every cut of the area, with an entry found before it or not.
#[test]
fn a_note_area_cut_anywhere_keeps_what_is_whole() {
    let notes = Segment::notes(&[Note::entry(FIRST), Note::entry(SECOND)]);
    for len in 0..=40 {
        let got = entry(&[notes.clone().file_size(len)]);
        match len {
            0..20 => assert!(got.is_err(), "{len} of 20 bytes are no note"),
            20..40 => assert_eq!(got, Ok(Some(FIRST)), "{len}"),
            _ => assert_eq!(got, Ok(Some(SECOND)), "{len}"),
        }
    }
}

/// Item 8: rounded up in 32 bits these are 0.
#[test]
fn a_note_with_sizes_near_4_gib_ends_the_walk() {
    for size in [0xffff_fffd, 0xffff_fffe, 0xffff_ffff] {
        let big = Note::new(*b"GNU\0", 3, []);
        for big in [big.clone().name_size(size), big.desc_size(size)] {
            let after = Segment::notes(&[Note::entry(FIRST), big.clone()]);
            assert_eq!(entry(&[after]), Ok(Some(FIRST)));
            let before = of(&[Segment::notes(&[big, Note::entry(FIRST)])]);
            assert!(matches!(before, Err(ScanError::NoEntry(NoEntry::Cut(_)))));
        }
    }
}

/// Item 9: some linkers leave p_offset 0 in a PT_NOTE; the bytes there are the file header.
#[test]
fn a_note_segment_at_offset_0_is_not_looked_at() {
    assert_eq!(
        entry(&[xen(SECOND).offset(0)]),
        Err(ScanError::NoEntry(NoEntry::NoNotes))
    );
    assert_eq!(entry(&[gnu().offset(0), xen(FIRST)]), Ok(Some(FIRST)));
}

/// Item 14: a table past the end, and as many entries as the field can say.
#[test]
fn a_program_header_table_past_the_end_is_refused() {
    for width in Width::ALL {
        let elf = Elf::bootable(width, FIRST);
        let many = elf
            .clone()
            .with_header(|header| header.segment_count = Some(65_535));
        let far = elf.with_header(|header| header.segments_offset = Some(0x7fff_ffff));
        for file in [many.build(), far.build()] {
            let error = Header::read(file.as_slice()).expect_err("not in the file");
            assert!(matches!(error.reason, ElfReason::Outside { .. }), "{error}");
            let line = error.to_string();
            assert!(line.contains("program header table") && !line.contains('\n'));
        }
    }
}

/// Item 15: the class is not the CPU mode, the machine and the type are the caller's business.
#[test]
fn a_file_is_taken_by_its_notes_and_not_by_its_class_machine_or_type() {
    // ET_REL, ET_EXEC, ET_DYN; i386, x86-64, AArch64
    for kind in [1, 2, 3] {
        for machine in [3, 62, 183] {
            let elf = Elf::bootable(Width::Elf32, FIRST)
                .kind(kind)
                .machine(machine);
            let file = elf.build();
            let header = Header::read(file.as_slice()).expect("sound");
            assert_eq!(header.class, Class::Elf32);
            assert_eq!((header.kind, header.machine), (kind, machine));
            assert_eq!(scan(&file).expect("sound").entry, Some(FIRST));
        }
    }
}

/// Item 15: libelf swaps the bytes of such a file and goes on; no x86 guest is one, so it is
/// refused by name.
#[test]
fn a_big_endian_file_is_refused() {
    let note = Note::entry(FIRST).endian(Endian::Big);
    let elf = Elf::new(Width::Elf32)
        .endian(Endian::Big)
        .segment(Segment::notes(&[note]));
    let Err(ScanError::Elf(error)) = scan(&elf.build()) else {
        panic!("it was taken")
    };
    assert_eq!(error.reason, ElfReason::BigEndian);
}

/// Item 16: the words come through as they are; whoever moves the image judges them.
#[test]
fn a_reloc_note_that_makes_no_sense_is_read_and_not_judged() {
    for (words, align, min, max) in [
        ([0, 0, 0], 0, 0, 0),
        ([3, 0x1000, 0xfff], 3, 0x1000, 0xfff),
        ([u32::MAX; 3], u32::MAX, u32::MAX, u32::MAX),
    ] {
        let notes = Segment::notes(&[Note::reloc(&words), Note::entry(FIRST)]);
        let align = Some(align);
        let want = PhysReloc { align, min, max };
        assert_eq!(of(&[notes]).expect("sound").reloc, Some(want));
    }
}
