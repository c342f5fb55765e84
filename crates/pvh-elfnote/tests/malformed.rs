//! What broken files lead to: an error that says where and why, or the entry that was good
//! nevertheless.

use pvh_elfnote::{
    ElfError, ElfReason, FaultReason, Header, NoEntry, NoteError, NoteFault, ReadError, ScanError,
    Source, TableKind, XenNotes, find_notes, scan,
};
use pvh_testkit::elf::{Class, Elf, Endian, HeaderOverride, Note, Section, Segment, note_area};

const GOOD: u32 = 0x10_0000;

fn headers(change: impl FnOnce(&mut HeaderOverride)) -> Result<Header, ElfError> {
    let elf = Elf::bootable(Class::Elf64, GOOD).with_header(change);
    Header::read(elf.build().as_slice())
}

fn notes(elf: &Elf) -> Result<XenNotes, ScanError> {
    scan(&elf.build())
}

/// Why the notes of an image, given as one segment's bytes, hold no entry; offsets are from the
/// segment's start.
fn reason(bytes: Vec<u8>) -> Result<u32, NoEntry> {
    let elf = Elf::new(Class::Elf64).segment(Segment::note_bytes(bytes));
    let (file, layout) = elf.build_with_layout();
    let start = layout.segments.first().copied().unwrap_or(0);
    let shift = |fault: NoteFault| NoteFault {
        offset: fault.offset.saturating_sub(start),
        ..fault
    };
    match scan(&file) {
        Ok(notes) => notes.require_entry(),
        Err(ScanError::NoEntry(NoEntry::Refused(fault))) => Err(NoEntry::Refused(shift(fault))),
        Err(ScanError::NoEntry(NoEntry::Cut(fault))) => Err(NoEntry::Cut(shift(fault))),
        Err(ScanError::NoEntry(reason)) => Err(reason),
        Err(_) => Ok(0),
    }
}

#[test]
fn what_is_not_an_elf_file_is_refused() {
    let error = scan(b"").expect_err("empty");
    let short = |len_bytes, need_bytes| ElfReason::Short {
        len_bytes,
        need_bytes,
    };
    let at = |offset, reason| ElfError { offset, reason };
    assert_eq!(error, ScanError::Elf(at(0, short(0, 16))));
    let magic = headers(|header| header.magic = Some(*b"\x1f\x8b\x08\0"));
    let gzip = ElfReason::Magic([0x1f, 0x8b, 8, 0]);
    assert_eq!(magic, Err(at(0, gzip)));
    for class in [0, 3, 255] {
        let got = headers(|header| header.ident_class = Some(class));
        assert_eq!(got, Err(at(4, ElfReason::Class(class))));
    }
    for data in [0, 3, 255] {
        let got = headers(|header| header.ident_data = Some(data));
        assert_eq!(got, Err(at(5, ElfReason::Encoding(data))));
    }
    let cut = |class, len: usize| Header::read(&Elf::bootable(class, GOOD).build()[..len]);
    assert_eq!(cut(Class::Elf32, 51), Err(at(51, short(51, 52))));
    assert_eq!(cut(Class::Elf64, 63), Err(at(63, short(63, 64))));
}

#[test]
fn a_big_endian_file_is_refused_with_the_reason() {
    for class in Class::ALL {
        let file = Elf::bootable(class, GOOD).endian(Endian::Big).build();
        let error = Header::read(file.as_slice()).expect_err("x86 is little endian");
        assert_eq!((error.offset, error.reason), (5, ElfReason::BigEndian));
        assert_eq!(
            error.to_string(),
            "ELF at file offset 0x5: the file is big-endian, but x86 is little-endian"
        );
    }
}

#[test]
fn a_table_past_the_end_is_refused() {
    let outside = |error: Result<Header, ElfError>| match error.map_err(|error| error.reason) {
        Err(ElfReason::Outside { table, offset, .. }) => (table, offset),
        other => panic!("{other:?}"),
    };
    let file_bytes = Elf::bootable(Class::Elf64, GOOD).build().len() as u64;
    for offset in [file_bytes - 111, file_bytes, u64::MAX - 56, u64::MAX] {
        let got = headers(|header| header.segments_offset = Some(offset));
        assert_eq!(outside(got), (TableKind::Segments, offset));
    }
    let got = headers(|header| header.segment_count = Some(0xffff));
    assert_eq!(outside(got), (TableKind::Segments, 64));
    let got = headers(|header| {
        header.sections_offset = Some(file_bytes);
        header.section_count = Some(1);
    });
    assert_eq!(outside(got), (TableKind::Sections, file_bytes));
    // libelf refuses an empty table beyond the end too
    let got = headers(|header| header.sections_offset = Some(file_bytes + 1));
    assert_eq!(outside(got), (TableKind::Sections, file_bytes + 1));
    let exact = headers(|header| header.segments_offset = Some(file_bytes - 112));
    assert!(exact.is_ok(), "a table that ends with the file is inside");
}

#[test]
fn program_headers_that_are_too_small_are_refused() {
    for (class, field, need) in [(Class::Elf32, 42, 32), (Class::Elf64, 54, 56)] {
        for size in [0, 1, need - 1] {
            let elf = Elf::bootable(class, GOOD);
            let elf = elf.with_header(|header| header.segment_size = Some(size));
            let error = Header::read(elf.build().as_slice()).expect_err("too small");
            let reason = ElfReason::EntrySize {
                table: TableKind::Segments,
                size,
                need,
            };
            assert_eq!((error.offset, error.reason), (field, reason));
        }
    }
    let bare = Elf::new(Class::Elf64).with_header(|header| header.segment_size = Some(0));
    assert!(
        Header::read(bare.build().as_slice()).is_ok(),
        "an empty table has no entries to be small"
    );
}

#[test]
fn program_headers_may_be_larger_than_the_class_says() {
    // two 56-byte headers read as one of 112 bytes
    let header = headers(|header| {
        header.segment_size = Some(112);
        header.segment_count = Some(1);
    })
    .expect("larger entries are stepped over");
    let file = Elf::bootable(Class::Elf64, GOOD).build();
    let all: Vec<_> = header.segments(file.as_slice()).collect();
    assert_eq!(all.len(), 1);
    assert!(all[0].expect("readable").is_load());
    let missing = header
        .segment(file.as_slice(), 1)
        .expect_err("there is one");
    let reason = ElfReason::Index {
        table: TableKind::Segments,
        index: 1,
        count: 1,
    };
    assert_eq!(missing.reason, reason);
}

#[test]
fn section_headers_that_are_too_small_matter_only_when_they_are_read() {
    let small = |elf: Elf| {
        let section = Section::notes(".note.Xen", &[Note::entry(0x30_0000)]);
        let elf = elf.section(section);
        elf.with_header(|header| header.section_size = Some(8))
    };
    let found = notes(&small(Elf::bootable(Class::Elf64, GOOD)));
    assert_eq!(found.expect("a segment has it").entry, Some(GOOD));
    let error = notes(&small(Elf::new(Class::Elf64))).expect_err("8 bytes are no header");
    let ScanError::Notes(NoteError::Sections(error)) = error else {
        panic!("{error:?}")
    };
    let reason = ElfReason::EntrySize {
        table: TableKind::Sections,
        size: 8,
        need: 64,
    };
    assert_eq!((error.offset, error.reason), (58, reason));
}

#[test]
fn a_file_cut_anywhere_gives_its_entry_or_an_error() {
    for class in Class::ALL {
        let section = Section::notes(".note.Xen", &[Note::entry(GOOD)]);
        let file = Elf::new(class)
            .segment(Segment::load(GOOD.into(), vec![0xf4; 16]))
            .section(section)
            .segment(Segment::notes(&[Note::entry(GOOD)]))
            .build();
        for len in 0..file.len() {
            assert!(scan(&file[..len]).is_err(), "the section table is gone");
        }
        let file = Elf::bootable(class, GOOD).build();
        for len in 0..file.len() {
            assert!(scan(&file[..len]).is_err(), "the entry's last byte is gone");
        }
        assert!(scan(&file).is_ok());
    }
}

#[test]
fn the_reason_why_there_is_no_entry_is_exact() {
    let plain = Elf::new(Class::Elf64).segment(Segment::load(0, vec![0; 16]));
    let none = notes(&plain).expect_err("no notes");
    assert_eq!(none, ScanError::NoEntry(NoEntry::NoNotes));

    let foreign = reason(note_area(&[
        Note::new(*b"GNU\0", 3, [0; 20]),
        Note::new(*b"stapsdt\0", 18, [0; 4]),
    ]));
    assert_eq!(foreign, Err(NoEntry::NoXenNotes { foreign_count: 2 }));

    let others = reason(note_area(&[
        Note::xen(6, *b"linux\0"),
        Note::new(*b"GNU\0", 3, []),
    ]));
    assert_eq!(others, Err(NoEntry::NoEntryNote { count: 1 }));
    assert_eq!(
        others.expect_err("no entry").to_string(),
        "none of the 1 Xen notes is PHYS32_ENTRY (18)"
    );
}

#[test]
fn an_entry_of_another_size_is_refused_with_its_offset() {
    for size in [0, 3, 5, 6, 7, 9, 16] {
        let gnu = Note::new(*b"GNU\0", 3, [0; 4]);
        let entry = Note::xen(18, vec![1; size]);
        let size = u32::try_from(size).expect("small");
        let Err(NoEntry::Refused(fault)) = reason(note_area(&[gnu, entry])) else {
            panic!("{size} bytes are no number")
        };
        assert_eq!(fault.reason, FaultReason::DescSize { size });
        assert_eq!(fault.offset, 20);
        let fault = fault.to_string();
        let want = "Xen note PHYS32_ENTRY at file offset 0x14: its number has";
        assert!(fault.starts_with(want), "{fault}");
    }
}

#[test]
fn an_entry_that_does_not_fit_32_bits_is_refused() {
    for value in [1 << 32, 0xffff_ffff_8000_0000, u64::MAX] {
        let Err(NoEntry::Refused(fault)) = reason(Note::entry64(value).to_bytes()) else {
            panic!("{value:#x} was taken")
        };
        assert_eq!(fault.reason, FaultReason::TooWide { value });
    }
    let unset = reason(Note::entry(u32::MAX).to_bytes());
    let Err(NoEntry::Refused(fault)) = unset else {
        panic!("{unset:?}")
    };
    assert_eq!(fault.reason, FaultReason::Unset);
    assert_eq!(
        reason(Note::entry(u32::MAX - 1).to_bytes()),
        Ok(u32::MAX - 1)
    );
}

#[test]
fn a_bad_entry_matters_only_if_it_is_the_last() {
    let bad = Note::xen(18, [0; 3]);
    let good = Note::entry(GOOD);
    assert_eq!(reason(note_area(&[bad.clone(), good.clone()])), Ok(GOOD));
    let last = reason(note_area(&[good, bad]));
    assert!(matches!(last, Err(NoEntry::Refused(_))), "{last:?}");
}

#[test]
fn other_numbers_of_an_odd_size_are_just_not_there() {
    let elf = Elf::new(Class::Elf64).segment(Segment::notes(&[
        Note::xen(2, [1; 5]),
        Note::xen(3, []),
        Note::entry(GOOD),
    ]));
    let found = notes(&elf).expect("they do not matter");
    assert_eq!((found.hypercall_page, found.virt_base), (None, None));
    assert_eq!((found.entry, found.count), (Some(GOOD), 3));
}

#[test]
fn a_cut_note_leaves_what_was_found_before_it() {
    let good = Note::entry(GOOD).to_bytes();
    for tail in [
        vec![0xff; 11],
        Note::new(*b"GNU\0", 3, [0; 4]).desc_size(5).to_bytes(),
        Note::new(*b"GNU\0", 3, []).name_size(0x1000).to_bytes(),
        Note::entry(0x50_0000).desc_size(8).to_bytes(),
    ] {
        let all = [good.clone(), tail.clone()].concat();
        assert_eq!(reason(all), Ok(GOOD), "{tail:x?}");
    }
}

#[test]
fn a_cut_note_does_not_hide_the_next_segment() {
    let cut = Segment::note_bytes(Note::new(*b"GNU\0", 3, []).desc_size(99).to_bytes());
    let good = Segment::notes(&[Note::entry(GOOD)]);
    for segments in [[cut.clone(), good.clone()], [good, cut]] {
        let [first, second] = segments;
        let elf = Elf::new(Class::Elf32).segment(first).segment(second);
        let found = notes(&elf).expect("one segment is sound");
        assert_eq!(found.entry, Some(GOOD));
        let fault = found.fault.expect("the cut is reported");
        let cut = FaultReason::Cut {
            need_bytes: 12 + 4 + 99,
            left_bytes: 16,
        };
        assert_eq!((fault.reason, fault.xen_kind), (cut, None));
    }
}

#[test]
fn a_name_cut_before_its_nul_is_nobodys() {
    let mut cut = Note::xen(15, [0; 8]).to_bytes();
    cut.truncate(12 + 3);
    let elf = Elf::new(Class::Elf64)
        .segment(Segment::note_bytes(cut))
        .section(Section::notes(".note.Xen", &[Note::entry(GOOD)]));
    let found = notes(&elf).expect("the section is sound");
    assert_eq!((found.count, found.entry), (1, Some(GOOD)));
    assert_eq!(found.fault.map(|fault| fault.xen_kind), Some(None));
}

#[test]
fn a_cut_entry_note_is_named_as_the_reason() {
    let cut = reason(Note::entry(GOOD).desc_size(8).to_bytes());
    let Err(NoEntry::Refused(fault)) = cut else {
        panic!("{cut:?}")
    };
    let need = FaultReason::Cut {
        need_bytes: 24,
        left_bytes: 20,
    };
    assert_eq!((fault.offset, fault.reason), (0, need));

    // after a good one it is no reason, but the cut is known
    let both = note_area(&[Note::entry(GOOD), Note::entry(0x20_0000).desc_size(8)]);
    let elf = Elf::new(Class::Elf64).segment(Segment::note_bytes(both));
    let found = notes(&elf).expect("the first is good");
    assert_eq!((found.entry, found.refused), (Some(GOOD), None));
    assert!(found.fault.is_some_and(|fault| fault.xen_kind.is_some()));

    let foreign = [Note::xen(6, *b"os").to_bytes(), vec![0; 7]].concat();
    let Err(NoEntry::Cut(fault)) = reason(foreign) else {
        panic!("nothing tells what the 7 bytes were to be")
    };
    assert_eq!(fault.offset, 20);
    let need = FaultReason::Cut {
        need_bytes: 12,
        left_bytes: 7,
    };
    assert_eq!(fault.reason, need);
}

/// libelf has counted it by the time it cannot read it, so the sections stay unread.
#[test]
fn a_cut_xen_note_in_a_segment_keeps_the_sections_out() {
    let elf = Elf::new(Class::Elf64)
        .segment(Segment::note_bytes(
            Note::xen(6, []).desc_size(9).to_bytes(),
        ))
        .section(Section::notes(".note.Xen", &[Note::entry(GOOD)]));
    let error = notes(&elf).expect_err("the segment has a Xen note");
    assert!(matches!(error, ScanError::NoEntry(NoEntry::Cut(_))));
}

#[test]
fn an_area_that_leaves_the_file_is_walked_to_the_files_end() {
    for size in [21, 0x1_0000, u64::MAX - 0x1000, u64::MAX] {
        let segment = Segment::notes(&[Note::entry(GOOD)]).file_size(size);
        let elf = Elf::new(Class::Elf64).segment(segment);
        let found = notes(&elf).expect("the note is in the file");
        assert_eq!(found.entry, Some(GOOD), "size {size:#x}");
        let fault = found.fault.expect("the area is not in the file");
        assert!(
            matches!(fault.reason, FaultReason::AreaOutside { len_bytes, .. } if len_bytes == size)
        );
    }
    for offset in [0x1_0000, u64::MAX - 10, u64::MAX] {
        let segment = Segment::notes(&[Note::entry(GOOD)]).offset(offset);
        let error = notes(&Elf::new(Class::Elf64).segment(segment)).expect_err("nothing there");
        let ScanError::NoEntry(NoEntry::Cut(fault)) = error else {
            panic!("{error:?}")
        };
        assert_eq!(fault.offset, offset);
    }
}

#[test]
fn the_name_is_compared_up_to_its_nul() {
    let with = |name: &[u8], pad| {
        let note = Note::new(name, 18, GOOD.to_le_bytes()).pad_byte(pad);
        reason(note.to_bytes())
    };
    let not_xen = Err(NoEntry::NoXenNotes { foreign_count: 1 });
    // zero padding ends a name that has no NUL of its own
    assert_eq!(with(b"Xen", 0), Ok(GOOD));
    assert_eq!(with(b"Xen", b'!'), not_xen);
    assert_eq!(with(b"Xen\0\0", 0xff), Ok(GOOD));
    assert_eq!(with(b"Xen\0tail", 0), Ok(GOOD));
    for name in [
        &b"xen\0"[..],
        b"XEN\0",
        b"Xe\0n",
        b"Xenu",
        b"Xenu\0",
        b"\0Xen",
        b"",
    ] {
        assert_eq!(with(name, 0), not_xen, "{name:?}");
    }
}

#[test]
fn a_name_without_nul_is_not_read_into_the_descriptor() {
    // libelf would read the name of this note out of its descriptor
    let nameless = Note::new([], 18, *b"Xen\0");
    let not_xen = Err(NoEntry::NoXenNotes { foreign_count: 1 });
    assert_eq!(reason(nameless.to_bytes()), not_xen);
    // and would compare a string that goes on after the file
    let endless = Note::new(*b"Xenn", 18, []);
    assert_eq!(reason(endless.to_bytes()), not_xen);
}

#[test]
fn a_required_feature_that_is_unknown_refuses_the_image() {
    let features = Note::xen(10, *b"dom0|!teleportation");
    let elf = Elf::new(Class::Elf64).segment(Segment::notes(&[Note::entry(GOOD), features]));
    let Err(ScanError::Notes(error)) = notes(&elf) else {
        panic!("nobody knows how to teleport")
    };
    let error = error.to_string();
    assert!(
        error.contains("requires the feature \"teleportation\""),
        "{error}"
    );
}

/// A file that cannot be read beyond some offset.
struct Rotten {
    bytes: Vec<u8>,
    good: usize,
}

impl Source for Rotten {
    fn len_bytes(&self) -> u64 {
        self.bytes.as_slice().len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let good = self.bytes.get(..self.good).unwrap_or_default();
        good.read_at(offset, buf)
    }
}

#[test]
fn a_source_that_fails_is_an_error_and_not_a_missing_note() {
    let notes = [
        Note::xen(6, *b"linux\0"),
        Note::xen(10, *b"dom0"),
        Note::xen(17, [0; 4]),
        Note::reloc(&[1, 2, 3]),
        Note::xen(2, [0; 8]),
        Note::entry(GOOD),
    ];
    let elf = Elf::new(Class::Elf64).segment(Segment::notes(&notes));
    let (bytes, layout) = elf.build_with_layout();
    let start = usize::try_from(layout.segments[0]).expect("small");
    let len = bytes.len();
    let mut source = Rotten { bytes, good: start };
    let header = Header::read(&source).expect("the headers are readable");
    let segment = header.segment(&source, 0).expect("so is the table");
    for good in start..len {
        source.good = good;
        let found = find_notes(&source, &header, [segment]);
        assert!(matches!(found, Err(NoteError::Unreadable(_))), "{good}");
    }
    source.good = 40;
    let error = Header::read(&source).expect_err("the header has 64 bytes");
    assert!(matches!(error.reason, ElfReason::Unreadable(_)));
    source.good = 64;
    let error = header.segment(&source, 0).expect_err("it is behind");
    assert_eq!(error.to_string().lines().count(), 1);
}
