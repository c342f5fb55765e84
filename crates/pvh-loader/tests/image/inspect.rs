//! What a report says about a kernel file.

use pvh_abi::elfnote::XenNoteType;
use pvh_loader::{
    image::{Codec, Format, ImageError, Limits},
    inspect::{NoteValue, Report, Verdict, inspect, inspect_bytes},
};
use pvh_testkit::elf::{Class, Elf, Note, Section, Segment};

use crate::{
    PAYLOAD_AT,
    pack::{ENTRY, bzimage, elf, gzip, payload},
};

fn report(bytes: Vec<u8>) -> Report {
    inspect_bytes(bytes, &Limits::default())
}

#[test]
fn a_bzimage_is_reported_layer_by_layer() {
    let packed = payload(Codec::Xz, &elf());
    let told = report(bzimage(&packed));
    assert_eq!(told.format, Some(Format::BzImage { codec: Codec::Xz }));
    let found = told.payload.unwrap();
    assert_eq!((found.codec, found.protocol), (Codec::Xz, (2, 15)));
    assert_eq!(usize::try_from(found.offset).unwrap(), PAYLOAD_AT);
    assert_eq!(usize::try_from(found.packed_bytes).unwrap(), packed.len());
    assert_eq!(usize::try_from(found.unpacked_bytes).unwrap(), elf().len());
    let inside = told.elf.unwrap();
    assert_eq!(
        (inside.class, inside.kind, inside.machine),
        (pvh_elfnote::Class::Elf64, 2, 62)
    );
    assert_eq!((inside.entry, inside.segments.len()), (Some(ENTRY), 2));
    assert!(told.verdict.is_bootable() && told.verdict.why().is_none());
}

#[test]
fn every_xen_note_is_listed_with_its_value() {
    let notes = [
        Note::new(*b"GNU\0", 3, [1, 2, 3]),
        Note::xen(6, *b"linux\0"),
        Note::entry64(u64::from(ENTRY)),
        Note::reloc(&[0x20_0000, 0x100_0000, 0x3fff_ffff]),
        Note::xen(13, [0; 16]),
        Note::xen(99, [0; 5]),
        Note::xen(98, [0; 8]),
    ];
    let bytes = Elf::new(Class::Elf64)
        .segment(Segment::load(0x10_0000, vec![0xf4; 0x100]))
        .segment(Segment::notes(&notes))
        .build();
    let inside = report(bytes).elf.unwrap();
    let listed: Vec<_> = inside
        .notes
        .iter()
        .map(|note| (note.kind.name(), &note.value))
        .collect();
    assert_eq!(listed.len(), 6);
    assert!(matches!(listed[0], (Some("GUEST_OS"), NoteValue::Text(text)) if *text == "linux"));
    assert_eq!(
        listed[1],
        (Some("PHYS32_ENTRY"), &NoteValue::Number(ENTRY.into()))
    );
    let words = vec![0x20_0000, 0x100_0000, 0x3fff_ffff];
    assert_eq!(listed[2], (Some("PHYS32_RELOC"), &NoteValue::Words(words)));
    assert_eq!(
        listed[3],
        (Some("L1_MFN_VALID"), &NoteValue::Opaque { len_bytes: 16 })
    );
    assert_eq!(listed[4], (None, &NoteValue::Opaque { len_bytes: 5 }));
    // As long as a number, and none for all that is known.
    assert_eq!(listed[5], (None, &NoteValue::Opaque { len_bytes: 8 }));
    assert_eq!(inside.notes[1].kind, XenNoteType::PHYS32_ENTRY);
}

#[test]
fn notes_in_sections_are_listed_when_no_segment_has_any() {
    let bytes = Elf::new(Class::Elf32)
        .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
        .section(Section::notes(".note.Xen", &[Note::entry(0x10_0000)]))
        .build();
    let told = report(bytes);
    assert!(told.verdict.is_bootable());
    let inside = told.elf.unwrap();
    assert_eq!(inside.origin, pvh_elfnote::Origin::Sections);
    assert_eq!(inside.notes.len(), 1);
}

#[test]
fn a_kernel_without_an_entry_is_reported_up_to_its_fault() {
    let bytes = Elf::new(Class::Elf64)
        .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
        .build();
    let told = report(gzip(&bytes));
    assert_eq!(told.format, Some(Format::GzippedElf));
    assert_eq!(told.elf.unwrap().segments.len(), 1);
    let Verdict::Refused {
        why: ImageError::NoEntry { .. },
    } = &told.verdict
    else {
        panic!("{:?}", told.verdict);
    };
    assert!(told.verdict.fix().unwrap().contains("CONFIG_PVH"));
}

#[test]
fn an_entry_outside_the_kernel_is_found_without_a_guest() {
    let bytes = Elf::new(Class::Elf64)
        .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
        .segment(Segment::notes(&[Note::entry(0x20_0000)]))
        .build();
    let told = report(bytes);
    assert!(
        matches!(told.verdict, Verdict::Unplaceable { .. }),
        "{:?}",
        told.verdict
    );
    assert!(told.verdict.why().unwrap().to_string().contains("0x200000"));
}

#[test]
fn a_file_that_is_no_kernel_has_a_report_and_a_missing_file_has_none() {
    let told = report(b"#!/bin/sh\n".to_vec());
    assert_eq!((told.file_bytes, told.format), (10, None));
    assert!(told.elf.is_none() && !told.verdict.is_bootable());
    assert!(matches!(
        inspect("/no/such/kernel"),
        Err(ImageError::Open { .. })
    ));
}
