//! For arbitrary bytes: no panic, and the walk sees what the `object` crate's reader sees.

use object::{
    LittleEndian,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, NoteIterator, ProgramHeader as _},
};
use proptest::{collection::vec, prelude::*};
use pvh_elfnote::{Header, NoteWalk, Source, XenNotes, find_notes, scan};
use pvh_testkit::elf::{Class, Elf, Note, Segment, note_area};

/// Type, name and descriptor; `None` ends the list where the walk had to.
type Seen = Vec<Option<(u32, Vec<u8>, Vec<u8>)>>;

fn slice(area: &[u8], offset: u64, len: u32) -> Vec<u8> {
    let bytes = area
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX));
    bytes
        .take(len.try_into().unwrap_or(usize::MAX))
        .copied()
        .collect()
}

fn ours(area: &[u8]) -> Seen {
    let walk = NoteWalk::new(area, 0, area.len_bytes());
    let seen = walk.map(|note| {
        let note = note.ok()?;
        let name = slice(area, note.offset.saturating_add(12), note.name_size);
        Some((
            note.kind,
            name,
            slice(area, note.desc_offset, note.desc_size),
        ))
    });
    seen.collect()
}

fn theirs(area: &[u8]) -> Seen {
    let Ok(notes) = NoteIterator::<FileHeader64<LittleEndian>>::new(LittleEndian, 4_u64, area)
    else {
        return Seen::new();
    };
    let seen = notes.map(|note| {
        let note = note.ok()?;
        let kind = note.n_type(LittleEndian).0;
        Some((kind, note.name_bytes().to_vec(), note.desc().to_vec()))
    });
    seen.collect()
}

/// The last 4- or 8-byte PHYS32_ENTRY of a sound file's note segments.
fn entry_by_object<H: FileHeader<Endian = LittleEndian>>(
    file: &[u8],
) -> object::Result<Option<u32>> {
    let header = H::parse(file)?;
    let mut entry = None;
    for segment in header.program_headers(LittleEndian, file)? {
        let Some(mut notes) = segment.notes(LittleEndian, file)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == b"Xen" && note.n_type(LittleEndian).0 == 18 {
                let low = note.desc().first_chunk().copied().unwrap_or_default();
                entry = Some(u32::from_le_bytes(low));
            }
        }
    }
    Ok(entry)
}

fn note() -> impl Strategy<Value = Note> {
    let name = prop_oneof![
        3 => Just(b"Xen\0".to_vec()),
        1 => Just(b"GNU\0".to_vec()),
        1 => Just(b"Linux\0".to_vec()),
        1 => vec(1_u8..=255, 0..12),
    ];
    let any = (name, 0_u32..24, vec(any::<u8>(), 0..20));
    let any = any.prop_map(|(name, kind, desc)| Note::new(name, kind, desc));
    prop_oneof![
        2 => any.prop_filter("entries are made below", |note| note.kind != 18 && note.kind != 10),
        1 => (0..u32::MAX).prop_map(Note::entry),
        1 => (0..u32::MAX).prop_map(|entry| Note::entry64(entry.into())),
    ]
}

fn find(file: &[u8], segments: &[Segment]) -> Option<XenNotes> {
    let header = Header::read(file).ok()?;
    let all: Result<Vec<_>, _> = header.segments(file).collect();
    let all = all.ok().filter(|all| all.len() == segments.len())?;
    find_notes(file, &header, all).ok()
}

proptest! {
    #[test]
    fn sound_areas_are_walked_as_object_walks_them(notes in vec(note(), 0..12)) {
        let area = note_area(&notes);
        let seen = ours(&area);
        prop_assert_eq!(seen.len(), notes.len());
        prop_assert_eq!(seen, theirs(&area));
    }

    #[test]
    fn broken_areas_are_walked_as_object_walks_them(
        notes in vec(note(), 1..8),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut area = note_area(&notes);
        for (at, byte) in hits {
            let at = at.index(area.len());
            area[at] = byte;
        }
        area.truncate(keep.index(area.len()).saturating_add(1));
        prop_assert_eq!(ours(&area), theirs(&area));
    }

    #[test]
    fn random_areas_are_walked_as_object_walks_them(area in vec(0_u8..16, 0..200)) {
        prop_assert_eq!(ours(&area), theirs(&area));
    }

    #[test]
    fn the_entry_of_a_sound_file_is_the_one_object_finds(
        areas in vec(vec(note(), 0..5), 0..4),
        is_wide in any::<bool>(),
    ) {
        let class = if is_wide { Class::Elf64 } else { Class::Elf32 };
        let mut elf = Elf::new(class);
        elf.segments = areas.iter().map(|notes| Segment::notes(notes)).collect();
        let file = elf.build();
        let want = if is_wide {
            entry_by_object::<FileHeader64<LittleEndian>>(&file)
        } else {
            entry_by_object::<FileHeader32<LittleEndian>>(&file)
        };
        let found = find(&file, &elf.segments).expect("the file is sound");
        prop_assert_eq!(found.fault, None);
        prop_assert_eq!(found.entry, want.expect("the file is sound"));
        prop_assert_eq!(scan(&file).is_ok(), found.entry.is_some());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(scan(&bytes).is_err());
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.extend(&bytes);
        let _ = scan(&elf);
        elf[4] = 1;
        let _ = scan(&elf);
    }

    #[test]
    fn a_damaged_file_never_panics(
        notes in vec(note(), 1..6),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        is_wide in any::<bool>(),
    ) {
        let class = if is_wide { Class::Elf64 } else { Class::Elf32 };
        let elf = Elf::new(class)
            .segment(Segment::notes(&notes))
            .section(pvh_testkit::elf::Section::notes(".note.Xen", &notes));
        let mut file = elf.build();
        for (at, byte) in hits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(found) = scan(&file) {
            prop_assert!(found.require_entry().is_ok() && found.count > 0);
        }
    }
}
