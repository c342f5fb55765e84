//! The list of what to load, of whole files from each kind of source.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pvh_abi::Gpa;
use pvh_elfnote::{Header, Load, LoadError, ReadError, Source, scan};
use pvh_testkit::elf::{Class, Elf, Note, Segment};

fn file(class: Class) -> Vec<u8> {
    Elf::new(class)
        .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
        .segment(Segment::load(0x20_0000, vec![1, 2, 3]))
        .segment(Segment::notes(&[Note::entry(0x10_0004)]))
        .build()
}

fn loads<S: Source + ?Sized>(source: &S, ram_bytes: u64) -> Vec<Result<Load, LoadError>> {
    let header = Header::read(source).unwrap();
    header.loads(source, ram_bytes).collect()
}

#[test]
fn the_segments_of_either_class_are_listed_and_one_has_the_entry() {
    for class in [Class::Elf32, Class::Elf64] {
        let file = file(class);
        let loads: Vec<Load> = loads(&file[..], 4 << 20)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let places: Vec<Gpa> = loads.iter().map(|load| load.gpa).collect();
        assert_eq!(places, [Gpa(0x10_0000), Gpa(0x20_0000)]);
        let entry = scan(&file).unwrap().require_entry().unwrap();
        let with_entry: Vec<bool> = loads.iter().map(|load| load.contains(entry)).collect();
        assert_eq!(with_entry, [true, false]);
    }
}

#[test]
fn less_ram_refuses_the_segments_that_do_not_fit() {
    let found = loads(&file(Class::Elf64)[..], 0x10_0010);
    assert!(found[0].is_ok());
    assert!(matches!(
        found[1],
        Err(LoadError::OutsideRam {
            gpa: Gpa(0x20_0000),
            ..
        })
    ));
}

#[test]
fn a_reference_reads_as_what_it_refers_to() {
    let file = file(Class::Elf64);
    let slice: &[u8] = &file;
    assert_eq!(loads(&slice, 4 << 20), loads(slice, 4 << 20));
}

#[cfg(feature = "std")]
#[test]
fn a_vector_and_an_open_file_read_as_the_bytes_they_hold() {
    let bytes = file(Class::Elf32);
    let path = std::env::temp_dir().join(format!("pvh-elfnote-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let open = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loads(&bytes, 4 << 20), loads(&bytes[..], 4 << 20));
    assert_eq!(loads(&open, 4 << 20), loads(&bytes[..], 4 << 20));
    let past = open.read_at(bytes.len() as u64, &mut [0; 2]);
    let offset = bytes.len() as u64;
    assert_eq!(
        past,
        Err(ReadError {
            offset,
            len_bytes: 2
        })
    );
}
