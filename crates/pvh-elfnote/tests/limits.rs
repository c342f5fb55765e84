//! Counts and sizes at, below and above their limits.

use std::cell::Cell;

use pvh_elfnote::{
    FaultReason, Header, MAX_NOTES, NoteWalk, ReadError, ScanError, Source, XenNotes, find_notes,
    scan,
};
use pvh_testkit::elf::{Class, Elf, Note, Segment, note_area};

const NAMELESS: [u8; 12] = [0; 12];

fn filler(count: usize) -> Vec<u8> {
    NAMELESS.repeat(count)
}

fn of_segments(areas: &[Vec<u8>]) -> Result<XenNotes, ScanError> {
    let mut elf = Elf::new(Class::Elf64);
    for area in areas {
        elf = elf.segment(Segment::note_bytes(area.clone()));
    }
    scan(&elf.build())
}

#[test]
fn the_65537th_note_is_not_looked_at() {
    let last = Note::entry(0x20_0000).to_bytes();
    let at = |count: usize| [filler(count), last.clone()].concat();
    let found = of_segments(&[at(65_535)]).expect("it is the 65536th");
    assert_eq!((found.entry, found.fault), (Some(0x20_0000), None));
    let error = of_segments(&[at(65_536)]).expect_err("it is the 65537th");
    assert!(error_is_too_many(error), "{error:?}");
    assert_eq!(MAX_NOTES, 65_536);
}

fn error_is_too_many(error: ScanError) -> bool {
    let ScanError::NoEntry(pvh_elfnote::NoEntry::Cut(fault)) = error else {
        return false;
    };
    fault.reason == FaultReason::TooMany
}

#[test]
fn the_limit_is_for_all_segments_together_and_keeps_what_was_found() {
    let first = note_area(&[Note::entry(0x10_0000)]);
    let second = Note::entry(0x20_0000).to_bytes();
    let found = of_segments(&[first.clone(), filler(65_534), second.clone()]);
    let found = found.expect("the second entry is the 65536th note");
    assert_eq!(found.entry, Some(0x20_0000));
    let found = of_segments(&[first, filler(65_535), second]);
    let found = found.expect("the first entry counts");
    assert_eq!(found.entry, Some(0x10_0000));
    let fault = found.fault.expect("there was more");
    assert_eq!(fault.reason, FaultReason::TooMany);
}

/// Counts the accesses to a file.
struct Counted<'a>(&'a [u8], Cell<u64>);

impl Source for Counted<'_> {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.set(self.1.get().saturating_add(1));
        self.0.read_at(offset, buf)
    }
}

#[test]
fn segments_that_share_one_area_do_not_multiply_the_work() {
    // as many program headers as the field can count, each naming the same 8192 notes
    let area = Segment::note_bytes(filler(8192));
    let (file, layout) = Elf::new(Class::Elf32).segment(area).build_with_layout();
    let source = Counted(&file, Cell::new(0));
    let header = Header::read(file.as_slice()).expect("sound");
    let segment = header.segment(file.as_slice(), 0).expect("sound");
    assert_eq!(segment.offset, layout.segments[0]);
    let many = std::iter::repeat_n(segment, 65_535);
    let found = find_notes(&source, &header, many).expect("readable");
    assert_eq!(found.foreign_count, 65_536);
    assert_eq!(source.1.get(), 65_536);
}

#[test]
fn a_table_of_65535_program_headers_is_read_to_its_end() {
    let mut elf = Elf::new(Class::Elf64);
    elf.segments = vec![Segment::default(); 65_534];
    let elf = elf.segment(Segment::notes(&[Note::entry(0x10_0000)]));
    let found = scan(&elf.build()).expect("the last one has it");
    assert_eq!(found.entry, Some(0x10_0000));
}

#[test]
fn sizes_near_the_end_of_32_bits_do_not_wrap() {
    // rounded up in 32 bits each of these would be 0, and the walk would go on behind the header
    for size in [u32::MAX, u32::MAX - 1, u32::MAX - 2, u32::MAX - 3, 1 << 31] {
        let entry = Note::entry(0x10_0000).to_bytes();
        let names = Note::new([], 0, []).name_size(size).to_bytes();
        let descs = Note::new([], 0, []).desc_size(size).to_bytes();
        let both = Note::new([], 0, []).name_size(size).desc_size(size);
        for bad in [names, descs, both.to_bytes()] {
            let file = [bad, entry.clone()].concat();
            let file = file.as_slice();
            let mut walk = NoteWalk::new(file, 0, file.len_bytes());
            let fault = walk.next().expect("one item").expect_err("it is cut");
            assert!(matches!(fault.reason, FaultReason::Cut { need_bytes, .. }
                if need_bytes > u64::from(size)));
            assert_eq!(walk.next(), None, "a walk ends at its first fault");
        }
    }
}

#[test]
fn a_walk_of_nothing_is_empty() {
    let file: &[u8] = &[0; 64];
    for offset in [0, 1, 63, 64] {
        assert_eq!(NoteWalk::new(file, offset, 0).count(), 0);
    }
    // 64 bytes are five nameless notes and four bytes more
    let items: Vec<_> = NoteWalk::new(file, 0, 64).collect();
    assert_eq!(items.len(), 6);
    assert!(items[5].is_err() && items[..5].iter().all(Result::is_ok));
    assert_eq!(NoteWalk::bounded(file, 0, 60, 5).count(), 5);
    let bounded: Vec<_> = NoteWalk::bounded(file, 0, 60, 4).collect();
    let fault = bounded[4].expect_err("four are allowed");
    assert_eq!((fault.offset, fault.reason), (48, FaultReason::TooMany));
}

#[test]
fn the_padding_of_the_last_descriptor_may_be_missing() {
    let note = Note::xen(18, [0x12, 0x34]).to_bytes();
    let found = of_segments(&[note[..18].to_vec()]).expect("two bytes are there");
    assert_eq!((found.entry, found.fault), (Some(0x3412), None));
}

#[test]
fn a_long_string_is_kept_to_64_bytes() {
    let notes = [
        Note::xen(6, vec![b'x'; 100_000]),
        Note::xen(10, vec![b'|'; 100_000]),
        Note::entry(0x10_0000),
    ];
    let found = of_segments(&[note_area(&notes)]).expect("strings do not matter");
    let text = found.guest_os.expect("it is there");
    assert!(text.is_cut() && text.as_bytes() == [b'x'; 64]);
    assert!(text != "x");
}

#[test]
fn many_long_feature_strings_do_not_multiply_the_work() {
    // sixteen strings of 4096 bytes; were each read whenever it is met, it would be 4 million times
    // 64 bytes
    let area = note_area(&vec![Note::xen(10, vec![b'|'; 4096]); 16]);
    let (file, _) = Elf::new(Class::Elf64)
        .segment(Segment::note_bytes(area))
        .build_with_layout();
    let source = Counted(&file, Cell::new(0));
    let header = Header::read(file.as_slice()).expect("sound");
    let segment = header.segment(file.as_slice(), 0).expect("sound");
    let found = find_notes(&source, &header, std::iter::repeat_n(segment, 4096));
    assert_eq!(found.expect("readable").count, 65_536);
    assert_eq!(source.1.get(), 65_536 + 1024);
}
