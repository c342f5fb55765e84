//! The demo image as a file: what a loader will read of it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use object::{
    elf::{
        EM_386, ET_EXEC, FileHeader32, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader32, ProgramType,
    },
    endian::LittleEndian as Le,
    read::elf::{FileHeader as _, ProgramHeader as _},
};
use pvh_conformance::demo_image;

fn header() -> &'static FileHeader32<Le> {
    FileHeader32::parse(demo_image()).unwrap()
}

fn segments(kind: ProgramType) -> impl Iterator<Item = &'static ProgramHeader32<Le>> {
    let all = header().program_headers(Le, demo_image()).unwrap();
    all.iter().filter(move |segment| segment.p_type(Le) == kind)
}

/// The descriptor of the only note, name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY).
fn note_entry() -> u32 {
    let note = segments(PT_NOTE).next().unwrap();
    let mut notes = note.notes(Le, demo_image()).unwrap().unwrap();
    let note = notes.next().unwrap().unwrap();
    assert_eq!((note.name(), note.n_type(Le).0), (&b"Xen"[..], 18));
    assert!(notes.next().unwrap().is_none());
    u32::from_le_bytes(note.desc().try_into().unwrap())
}

#[test]
fn the_image_is_a_static_32_bit_x86_executable() {
    let header = header();
    assert_eq!(header.e_type(Le), ET_EXEC);
    assert_eq!(header.e_machine(Le), EM_386);
    assert_eq!(segments(PT_INTERP).count(), 0);
}

#[test]
fn the_note_names_an_entry_in_the_code() {
    let entry = note_entry();
    assert_eq!(entry, header().e_entry(Le));
    let code: Vec<_> = segments(PT_LOAD)
        .filter(|s| s.p_flags(Le).0 & EXECUTABLE != 0)
        .collect();
    assert_eq!(code.len(), 1);
    let start = code[0].p_paddr(Le);
    assert!((start..start + code[0].p_filesz(Le)).contains(&entry));
}

#[test]
fn no_segment_is_both_writable_and_executable() {
    let both = WRITABLE | EXECUTABLE;
    assert!(segments(PT_LOAD).all(|segment| segment.p_flags(Le).0 & both != both));
}

#[test]
fn segments_do_not_overlap_and_one_has_bytes_past_the_file_s() {
    let mut end = 0;
    for segment in segments(PT_LOAD) {
        assert!(segment.p_paddr(Le) >= end);
        end = segment.p_paddr(Le) + segment.p_memsz(Le);
    }
    assert!(end < 0x0020_0000, "ends at {end:#x}");
    assert!(segments(PT_LOAD).any(|segment| segment.p_memsz(Le) > segment.p_filesz(Le)));
}

/// Builds may be compared byte by byte: nothing of the machine that built it is inside.
#[test]
fn the_image_names_no_path_of_the_build() {
    let here = env!("CARGO_MANIFEST_DIR").as_bytes();
    let image = demo_image();
    assert!(!image.windows(here.len()).any(|window| window == here));
    assert!(!image.windows(6).any(|window| window == b"demo.c"));
}

const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;
