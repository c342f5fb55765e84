//! Where the entry note is found, and what it says.

use super::*;

/// libelf: the last Xen entry note wins, and a segment without one changes nothing. This loader
/// does the same.
#[test]
fn the_xen_note_is_found_in_any_of_two_note_segments() {
    let xen = |entry| Segment::notes(&[Note::entry(entry)]);
    let other = || Segment::notes(&[foreign()]);
    let first = without_notes().segment(xen(0x10_0004)).segment(other());
    assert_eq!(entry(&first).unwrap(), 0x10_0004);
    let last = without_notes().segment(other()).segment(xen(0x10_0008));
    assert_eq!(entry(&last).unwrap(), 0x10_0008);
    let both = without_notes()
        .segment(xen(0x10_0004))
        .segment(xen(0x10_0008));
    assert_eq!(entry(&both).unwrap(), 0x10_0008);
}

/// libelf: sections are searched when no segment has a Xen note. This loader does the same.
#[test]
fn a_note_in_a_section_is_found_without_a_note_segment() {
    for class in Class::ALL {
        let elf = Elf::new(class)
            .segment(Segment::load(MIB, vec![0xF4; 16]))
            .section(Section::notes(".note.Xen", &[Note::entry(0x10_0004)]));
        assert_eq!(entry(&elf).unwrap(), 0x10_0004);
    }
}

/// libelf: only notes of the name "Xen" count. This loader does the same.
#[test]
fn a_foreign_note_of_type_18_is_not_the_entry() {
    let foreign = Note::new("NetBSD", PHYS32_ENTRY, 0x10_0004_u32.to_le_bytes());
    let elf = with_notes(&[foreign.clone(), Note::entry(0x10_0008)]);
    assert_eq!(entry(&elf).unwrap(), 0x10_0008);
    let elf = with_notes(&[Note::entry(0x10_0008), foreign.clone()]);
    assert_eq!(entry(&elf).unwrap(), 0x10_0008);
    let only = entry(&with_notes(&[foreign]));
    assert!(
        matches!(only, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{only:?}"
    );
}

/// libelf: name and descriptor are padded to 4 bytes, whatever the segment's alignment. Where 8
/// bytes were meant, it finds a note elsewhere or none, and refuses. This loader does the same: one
/// rule, Xen's, so that an image boots here when it boots there.
#[test]
fn notes_are_padded_to_four_bytes() {
    let entry_of =
        |bytes: Vec<u8>| entry(&without_notes().segment(Segment::note_bytes(bytes).align(8)));
    let xen = || note_area(&[Note::entry(0x10_0004)]);
    let after = |foreign_len: usize, padding: usize| {
        let foreign = Note::new("GNU", 3, vec![7; foreign_len]);
        [note_area(&[foreign]), vec![0; padding], xen()].concat()
    };
    assert_eq!(entry_of([xen(), vec![0; 4]].concat()).unwrap(), 0x10_0004);
    assert_eq!(entry_of(after(5, 0)).unwrap(), 0x10_0004); // 24 bytes: both rules agree
    assert_eq!(entry_of(after(20, 0)).unwrap(), 0x10_0004); // 36 bytes
    let lost = entry_of(after(20, 4)); // to 40 bytes
    assert!(
        matches!(lost, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{lost:?}"
    );
    // The name padded to 8 as well: the first half of the padding is read as the entry, and 0 is no
    // entry.
    let wide_name = entry(&with_notes(&[Note::entry(0x10_0004).pad_to(8)]));
    let outside = PlanError::EntryOutside {
        entry: 0,
        image: GuestRange::new(Gpa(MIB), 64 << 10),
    };
    assert!(
        matches!(wide_name, Err(Refused::Plan(error)) if error == outside),
        "{wide_name:?}"
    );
}

/// libelf compares up to a NUL, wherever it lies, and so takes "Xen" of 3 bytes when a zero pads
/// it, and nothing that goes on after it. This loader does the same, except that the NUL must lie
/// in the name and its padding.
#[test]
fn a_name_without_a_nul_is_taken_only_if_its_padding_ends_it() {
    let entry_of = |name: &[u8], pad_byte| {
        let mut note = Note::entry(0x10_0004).pad_byte(pad_byte);
        note.name = name.to_vec();
        entry(&with_notes(&[note]))
    };
    assert_eq!(entry_of(b"Xen", 0).unwrap(), 0x10_0004);
    for (name, pad_byte) in [
        (&b"Xen"[..], b'!'),
        (b"Xen!", 0),
        (b"Xenon", 0),
        (b"Xe", 0),
        (b"", 0),
    ] {
        let refused = entry_of(name, pad_byte);
        assert!(
            matches!(refused, Err(Refused::Image(ImageError::NoEntry { .. }))),
            "{name:?}: {refused:?}"
        );
    }
}

/// libelf drops the high half and boots. This loader is stricter: an entry above 4 GiB cannot be
/// what was meant, and what is left of it is an accident.
#[test]
fn an_entry_with_a_high_half_is_refused() {
    assert_eq!(
        entry(&with_notes(&[Note::entry64(0x10_0004)])).unwrap(),
        0x10_0004
    );
    for high in [0x1_0010_0004, 0xFFFF_FFFF_8010_0004, 1 << 63] {
        let refused = entry(&with_notes(&[Note::entry64(high)]));
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "{high:#x}: {refused:?}"
        );
    }
}

/// libelf reads 1, 2, 4 and 8 bytes, and takes any other size for the number 0, which its range
/// check then refuses. This loader does the same, with the size for a reason.
#[test]
fn an_entry_of_1_2_4_or_8_bytes_is_read_and_no_other() {
    let elf = |len: usize| {
        let mut desc = vec![0x10; len];
        desc.iter_mut().skip(2).for_each(|byte| *byte = 0);
        // The image covers 0x10 and 0x1010.
        Elf::new(Class::Elf64)
            .segment(Segment::load(1, vec![0xF4; 0x2000]))
            .segment(Segment::notes(&[Note::xen(PHYS32_ENTRY, desc)]))
    };
    for (len, want) in [(1, 0x10), (2, 0x1010), (4, 0x1010), (8, 0x1010)] {
        assert_eq!(entry(&elf(len)).unwrap(), want, "{len} bytes");
    }
    for len in [0, 3, 9] {
        let refused = entry(&elf(len));
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "{len} bytes: {refused:?}"
        );
    }
}

/// libelf stops at a record that does not fit and finds no entry. This loader does the same,
/// without a hang, a panic or a large allocation; a sound Xen note in another segment still counts.
#[test]
fn a_note_cut_short_or_of_a_huge_size_ends_its_segment() {
    let whole = note_area(&[Note::entry(0x10_0004)]);
    for len in 1..whole.len() {
        let elf = without_notes().segment(Segment::note_bytes(&whole[..len]));
        let refused = entry(&elf);
        assert!(
            matches!(refused, Err(Refused::Image(_))),
            "cut at {len}: {refused:?}"
        );
    }
    for size in [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFD, u32::MAX] {
        for note in [
            Note::entry(0x10_0004).name_size(size),
            Note::entry(0x10_0004).desc_size(size),
        ] {
            let refused = entry(&with_notes(&[note]));
            assert!(
                matches!(refused, Err(Refused::Image(_))),
                "{size:#x}: {refused:?}"
            );
        }
        let broken = Segment::notes(&[foreign().desc_size(size)]);
        let elf = with_notes(&[Note::entry(0x10_0004)]).segment(broken);
        assert_eq!(entry(&elf).unwrap(), 0x10_0004, "{size:#x}");
    }
}

/// libelf skips such a segment. This loader does the same: at offset 0 there is the ELF header, and
/// no note.
#[test]
fn a_note_segment_at_offset_0_is_skipped() {
    let nowhere = Segment::notes(&[Note::entry(0x10_0008)]).offset(0);
    let elf = with_notes(&[Note::entry(0x10_0004)]).segment(nowhere.clone());
    assert_eq!(entry(&elf).unwrap(), 0x10_0004);
    let refused = entry(&without_notes().segment(nowhere));
    assert!(
        matches!(refused, Err(Refused::Image(ImageError::NoEntry { .. }))),
        "{refused:?}"
    );
}

/// libelf uses p_align only to relocate. This loader does the same.
#[test]
fn the_alignment_of_a_segment_does_not_matter() {
    for align in [0, 1, 3, 1 << 63] {
        let elf = Elf::new(Class::Elf64)
            .segment(Segment::load(MIB + 8, vec![0xF4; 16]).align(align))
            .segment(Segment::notes(&[Note::entry(0x10_0008)]).align(align));
        assert_eq!(entry(&elf).unwrap(), 0x10_0008, "{align:#x}");
    }
}
