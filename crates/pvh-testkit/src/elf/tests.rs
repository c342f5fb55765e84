//! Tests of the ELF builder: the `object` crate reads what it wrote.

use object::{
    Object, ObjectSection, ObjectSegment, SectionKind,
    elf::{FileHeader32, FileHeader64, NoteType},
    endian::Endianness,
    read::elf::{ElfFile, FileHeader, NoteIterator, ProgramHeader as _},
};

use super::*;

fn sample(class: Class) -> Elf {
    Elf::new(class)
        .entry(0x1234)
        .segment(Segment::load(0x10_0000, b"kernel".as_slice()).mem_size(64))
        .segment(Segment::notes(&[Note::entry(0x10_0000)]))
        .section(Section::notes(".note.Xen", &[Note::xen(6, *b"linux\0")]))
}

fn check<H: FileHeader<Endian = Endianness>>(elf: &Elf) {
    let (bytes, layout) = elf.build_with_layout();
    let file = ElfFile::<H>::parse(bytes.as_slice()).expect("the file is sound");
    assert_eq!(file.entry(), 0x1234);
    let load = file.segments().next().expect("one PT_LOAD");
    assert_eq!(
        (load.address(), load.size(), load.data()),
        (0x10_0000, 64, Ok(b"kernel".as_slice()))
    );
    let note = file.elf_program_headers()[1];
    let mut notes: NoteIterator<'_, H> = note
        .notes(file.endian(), bytes.as_slice())
        .expect("the range is in the file")
        .expect("it is a PT_NOTE");
    let note = notes.next().expect("sound").expect("one note");
    assert_eq!(
        (note.name(), note.n_type(file.endian())),
        (b"Xen".as_slice(), NoteType(18))
    );
    assert_eq!(note.desc(), [0, 0, 0x10, 0]);
    let section = file.section_by_name(".note.Xen").expect("it has its name");
    assert_eq!(section.kind(), SectionKind::Note);
    assert_eq!(section.file_range(), Some((layout.sections[0], 12 + 4 + 8)));
}

#[test]
fn object_reads_what_was_asked_for_in_elf32() {
    check::<FileHeader32<Endianness>>(&sample(Class::Elf32));
}

#[test]
fn object_reads_what_was_asked_for_in_elf64() {
    check::<FileHeader64<Endianness>>(&sample(Class::Elf64));
}

#[test]
fn a_big_endian_file_is_one() {
    let elf = Elf {
        segments: Vec::new(),
        sections: Vec::new(),
        ..sample(Class::Elf32)
    };
    let bytes = elf.endian(Endian::Big).build();
    assert_eq!((bytes[5], &bytes[24..28]), (2, &[0, 0, 0x12, 0x34][..]));
}

#[test]
fn overrides_go_into_the_header_and_move_nothing() {
    let plain = sample(Class::Elf64).build();
    let lying = sample(Class::Elf64)
        .with_header(|header| header.segment_count = Some(0xffff))
        .build();
    assert_eq!(lying[56..58], [0xff, 0xff]);
    assert_eq!((&lying[..56], &lying[58..]), (&plain[..56], &plain[58..]));
}

#[test]
fn a_note_is_padded_to_four_bytes_unless_told_otherwise() {
    let note = Note::new(b"GNU\0".as_slice(), 5, [1, 2, 3, 4, 5]);
    assert_eq!(note.to_bytes().len(), 12 + 4 + 8);
    assert_eq!(note.clone().pad_to(8).to_bytes().len(), 12 + 8 + 8);
    assert_eq!(note.desc_size(u32::MAX).to_bytes()[4..8], [0xff; 4]);
}
