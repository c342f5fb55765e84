//! The advice of each refusal, followed: what is advised is done, and the result is planned.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use pvh_abi::{Gpa, GuestRange, start_info::MemmapKind};
use pvh_elfnote::{FaultReason, NoEntry};
use pvh_loader::{
    Boot, ImageError, ModuleSource,
    image::{Image, Lookalike},
    plan::{Fix, PlanError, WriteKind},
};
use pvh_start_info::MemmapRange;
use pvh_testkit::elf::{Class, Elf, Note, Section, Segment};

const MIB: u64 = 1 << 20;
const ENTRY: u32 = 0x10_0000;

/// `e_type` of an object file and of an executable file.
const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;

/// `sh_type` of a section with data.
const SHT_PROGBITS: u32 = 1;

fn boot() -> Boot {
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: 64 * MIB,
        kind: MemmapKind::RAM,
    };
    Boot {
        memmap: vec![ram],
        ..Boot::default()
    }
}

fn refused(file: Vec<u8>) -> ImageError {
    Image::from_bytes(file).unwrap_err()
}

fn unplanned(file: Vec<u8>, boot: &Boot) -> PlanError {
    let image = Image::from_bytes(file).unwrap();
    image.plan(boot).unwrap_err()
}

/// What followed an advice can be booted.
fn planned(file: Vec<u8>, boot: &Boot) {
    let image = Image::from_bytes(file).unwrap();
    let plan = image.plan(boot).unwrap();
    assert_eq!(u64::from(plan.placement().entry), u64::from(ENTRY));
}

fn code() -> Segment {
    Segment::load(ENTRY.into(), vec![0xF4; 0x22])
}

fn with_notes(notes: &[Note]) -> Vec<u8> {
    let elf = Elf::new(Class::Elf64).segment(code());
    elf.segment(Segment::notes(notes)).build()
}

fn bootable() -> Vec<u8> {
    with_notes(&[Note::entry(ENTRY)])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_gzipped_initramfs_is_given_as_the_initrd() {
    let mut cpio = b"070701".to_vec();
    cpio.resize(240, b'0');
    let file = gzip(&cpio);
    let error = refused(file.clone());
    assert_eq!(
        error.to_string(),
        "the gzip stream does not contain an ELF; it looks like an initramfs (cpio)"
    );
    assert_eq!(error.fix(), Some("give it as the initrd, after the kernel"));
    let boot = Boot {
        modules: vec![ModuleSource::from_bytes(file)],
        ..boot()
    };
    planned(bootable(), &boot);
}

#[test]
fn disk_images_firmware_and_efi_programs_are_named() {
    let with = |len: usize, offset: usize, magic: &[u8]| {
        let mut file = vec![0; len];
        for (to, from) in file.iter_mut().skip(offset).zip(magic) {
            *to = *from;
        }
        file
    };
    let mut efi = with(0x400, 0x80, b"PE\0\0\x64\x86\x02\0");
    efi[..2].copy_from_slice(b"MZ");
    efi[0x3C] = 0x80;
    efi[0x94] = 0xF0;
    let mut zboot = efi.clone();
    zboot[4..8].copy_from_slice(b"zimg");
    zboot[0x84..0x86].copy_from_slice(b"\x64\xaa");
    let mut uki = efi.clone();
    uki[0x188..0x18E].copy_from_slice(b".linux");
    let inside = "give a kernel file from inside it";
    for (file, name, fix) in [
        (
            with(0x9000, 0x8000, b"\x01CD001"),
            "a CD image (ISO 9660)",
            inside,
        ),
        (
            with(0x1000, 0x438, b"\x53\xef"),
            "a file system (ext2, ext3 or ext4)",
            inside,
        ),
        (
            with(0x2000, 0x1FF0, b"\xea\x5b\xe0\x00\xf0"),
            "firmware of a PC",
            "give a kernel: firmware has no PVH entry point",
        ),
        (
            efi,
            "an EFI program",
            "it has no PVH entry point: give an ELF (vmlinux) or a bzImage (vmlinuz)",
        ),
        (
            zboot,
            "a packed arm64 kernel (EFI zboot)",
            "give a kernel for x86 or x86-64",
        ),
        (
            uki,
            "an EFI program with a Linux kernel in it",
            "take the kernel out of it: objcopy -O binary --only-section=.linux",
        ),
    ] {
        let error = refused(file);
        let ImageError::UnknownFormat { looks_like, .. } = &error else {
            panic!("{error}")
        };
        let Some(Lookalike { name: found, .. }) = looks_like else {
            panic!("{error}")
        };
        assert_eq!((*found, error.fix()), (name, Some(fix)));
    }
}

#[test]
fn the_advice_for_an_image_in_the_upper_half_is_physical_addresses() {
    let linked = |paddr: u64, notes: &[Note]| {
        let segment = Segment::load(paddr, vec![0xF4; 0x22]);
        let elf = Elf::new(Class::Elf64).segment(segment);
        elf.segment(Segment::notes(notes)).build()
    };
    let reloc = Note::reloc(&[0x20_0000, 0x10_0000, 0x3FFF_FFFF]);
    for notes in [&[Note::entry(ENTRY)][..], &[Note::entry(ENTRY), reloc][..]] {
        let error = unplanned(linked(0xFFFF_FFFF_8010_0000, notes), &boot());
        assert!(matches!(error, PlanError::SegmentTooHigh { .. }), "{error}");
        assert_eq!(error.fix(), Some(Fix::PhysicalAddresses));
        planned(linked(u64::from(ENTRY), notes), &boot());
    }
}

#[test]
fn the_advice_for_an_image_that_cannot_be_placed_is_a_reloc_note() {
    let linked = |notes: &[Note]| {
        let segment = Segment::load(0xFD00_0000, vec![0xF4; 0x22]);
        let elf = Elf::new(Class::Elf64).segment(segment);
        elf.segment(Segment::notes(notes)).build()
    };
    let entry = Note::entry(0xFD00_0000);
    let error = unplanned(linked(std::slice::from_ref(&entry)), &boot());
    assert_eq!(error.fix(), Some(Fix::Relink));
    let image = Image::from_bytes(linked(&[entry, Note::reloc(&[])])).unwrap();
    assert!(image.plan(&boot()).is_ok());
}

#[test]
fn the_advice_for_an_entry_note_of_the_wrong_section_type_is_to_declare_it_a_note() {
    let linked = |kind: Option<u32>| {
        let section = Section::notes(".note.Xen", &[Note::entry(ENTRY)]);
        let section = section.with(|section| section.kind = kind.unwrap_or(section.kind));
        Elf::new(Class::Elf64).segment(code()).section(section)
    };
    let error = refused(linked(Some(SHT_PROGBITS)).build());
    assert_eq!(
        error.to_string(),
        "section 1 has the Xen entry note, but its type is PROGBITS instead of NOTE"
    );
    assert_eq!(
        error.fix(),
        Some("declare it as a note: .section .note.Xen, \"a\", @note")
    );
    planned(linked(None).build(), &boot());
}

#[test]
fn the_advice_for_an_object_file_is_to_link_it() {
    let section = || Section::notes(".note.Xen", &[Note::entry(ENTRY)]);
    let object = Elf::new(Class::Elf64).kind(ET_REL).section(section());
    let error = refused(object.build());
    assert!(matches!(error, ImageError::NotLinked), "{error}");
    assert!(error.fix().unwrap().starts_with("link it"));
    let linked = Elf::new(Class::Elf64).kind(ET_EXEC).section(section());
    let error = refused(linked.build());
    assert_eq!(
        error.fix(),
        Some("link the kernel with a loadable segment (PT_LOAD)")
    );
    planned(linked.segment(code()).build(), &boot());
}

/// Each way to miss an entry note, and the note that the advice asks for.
#[test]
fn the_advice_about_an_entry_note_names_what_is_wrong_with_it() {
    type Is = fn(&NoEntry) -> bool;
    let cases: [(Vec<Note>, Is, &str); 6] = [
        (
            vec![],
            |why| matches!(why, NoEntry::NoNotes),
            "give it the note",
        ),
        (
            vec![Note::new("GNU", 3, vec![7; 20])],
            |why| matches!(why, NoEntry::NoXenNotes { .. }),
            "give it the note",
        ),
        (
            vec![Note::xen(1, vec![0; 8])],
            |why| matches!(why, NoEntry::NoEntryNote { .. }),
            "give it the note",
        ),
        (
            vec![Note::entry64(0xFFFF_FFFF_8010_0000)],
            |why| matches!(why, NoEntry::Refused(fault) if matches!(fault.reason, FaultReason::TooWide { .. })),
            "the physical address of the entry, not the virtual one",
        ),
        (
            vec![Note::xen(18, vec![0; 3])],
            |why| matches!(why, NoEntry::Refused(fault) if matches!(fault.reason, FaultReason::DescSize { .. })),
            "a descriptor of 4 bytes",
        ),
        (
            vec![Note::entry(u32::MAX)],
            |why| matches!(why, NoEntry::Refused(fault) if matches!(fault.reason, FaultReason::Unset)),
            "the physical address of the entry",
        ),
    ];
    for (mut notes, is, advice) in cases {
        let error = refused(with_notes(&notes));
        let ImageError::NoEntry { source } = &error else {
            panic!("{error}")
        };
        assert!(is(source), "{source:?}");
        let fix = error.fix().unwrap();
        assert!(fix.contains(advice), "{fix}");
        // A note that is there is corrected, a missing one is added.
        notes.retain(|note| note.to_bytes() != Note::entry(u32::MAX).to_bytes());
        notes.push(Note::entry(ENTRY));
        planned(with_notes(&notes), &boot());
    }
}

#[test]
fn gzip_is_taken_as_gunzip_takes_it() {
    let elf = bootable();
    let (head, tail) = elf.split_at(100);
    let members = [gzip(head), gzip(b""), gzip(tail)].concat();
    planned(members.clone(), &boot());
    for padding in [1, 3, 4, 5000] {
        planned([&members[..], &vec![0; padding]].concat(), &boot());
    }
    for after in [&b"\0\0x"[..], b"x", b"\x1f\x8b"] {
        let error = refused([&members[..], after].concat());
        assert!(matches!(error, ImageError::Unpack { .. }), "{error}");
    }
}

#[test]
fn segments_may_overlap_in_zeros_and_not_in_bytes() {
    let linked = |second: Segment| {
        let first = Segment::load(ENTRY.into(), vec![0xF4; 0x22]).mem_size(0x3000);
        let elf = Elf::new(Class::Elf32).segment(first).segment(second);
        elf.segment(Segment::notes(&[Note::entry(ENTRY)])).build()
    };
    let zeros = |at: u64, len: u64| Segment::load(at, Vec::new()).mem_size(len);
    for (second, end) in [
        (zeros(0x10_2000, 0x1000), 0x10_3000),
        (zeros(0x10_2000, 0x2000), 0x10_4000),
        (zeros(0x10_0022, 0x10), 0x10_3000),
    ] {
        let image = Image::from_bytes(linked(second)).unwrap();
        let boot = boot();
        let plan = image.plan(&boot).unwrap();
        let placement = plan.placement();
        assert_eq!(placement.kernel.end(), Some(Gpa(end)));
        let zeros = placement.writes.iter();
        let zeros = zeros.filter(|write| matches!(write.kind, WriteKind::Bss { .. }));
        let total: u64 = zeros.map(|write| write.range.len_bytes).sum();
        assert_eq!(total, end - 0x10_0022);
        let [first, ..] = placement.writes[..] else {
            panic!()
        };
        assert_eq!(first.range, GuestRange::new(Gpa(0x10_0000), 0x22));
    }
    for second in [
        zeros(0x10_0021, 0x10),
        Segment::load(0x10_2000, vec![1; 16]),
        Segment::load(0xF_F000, vec![1; 0x1001]),
    ] {
        let error = unplanned(linked(second), &boot());
        assert!(
            matches!(error, PlanError::SegmentsOverlap { .. }),
            "{error}"
        );
    }
}
