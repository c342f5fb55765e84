//! Compares our reading of a kernel with linux-loader's and `object`'s; a rule explains every
//! difference.

use std::{cell::OnceCell, io::Cursor};

use linux_loader::loader::{
    KernelLoader,
    elf::{Elf, PvhBootCapability},
};
use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, ProgramHeader as _},
};
use pvh_elfnote::{Class, Header, NoteWalk, PhysReloc, ProgramHeader, XenNotes, find_notes, scan};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::bytes::{self, is_printable};

/// Reads a file in three ways.
///
/// # Panics
///
/// If our reading differs from another one and no rule explains it, or if an error does not display
/// as printable lines.
pub fn differential(file: &[u8]) {
    let header = match Header::read(file) {
        Ok(header) => header,
        // We are never stricter than object about the header, except for sizes and tables that it
        // reads late.
        Err(error) => return is_printable(&error),
    };
    let segments: Vec<ProgramHeader> = header.segments(file).filter_map(Result::ok).collect();
    let notes = find_notes(file, &header, segments.iter().copied());
    let ours = match scan(file) {
        Ok(notes) => notes.entry,
        Err(error) => {
            is_printable(&error);
            None
        }
    };
    let facts = Facts::gather(file, &header, &segments, notes.as_ref().ok());
    match header.class {
        Class::Elf32 => beside_object::<FileHeader32<Endianness>>(file, &segments, &facts, ours),
        Class::Elf64 => beside_object::<FileHeader64<Endianness>>(file, &segments, &facts, ours),
    }
    beside_linux_loader(file, &segments, &facts, ours);
    let reloc: Option<PhysReloc> = notes.ok().and_then(|notes| notes.reloc);
    assert!(reloc.is_none() || facts.is_from_sections || !facts.notes.is_empty());
}

/// The facts that the rules use.
struct Facts {
    is_wide: bool,
    segment_size: u16,
    segment_offset: u64,
    /// Kind, descriptor and name length of every Xen note in segments, in order.
    notes: Vec<(u32, Vec<u8>, u32)>,
    note_segments: usize,
    has_fault: bool,
    has_segment_fault: bool,
    is_forbidden: bool,
    is_from_sections: bool,
    has_segment_at_0: bool,
    has_wide_align: bool,
    has_odd_name: bool,
}

impl Facts {
    fn gather(
        file: &[u8],
        header: &Header,
        segments: &[ProgramHeader],
        found: Option<&XenNotes>,
    ) -> Self {
        let is_note = |segment: &&ProgramHeader| segment.kind == 4;
        let mut notes = Vec::new();
        let mut has_fault = found.is_some_and(|found| found.fault.is_some());
        let mut has_segment_fault = false;
        let mut has_odd_name = false;
        for segment in segments.iter().filter(|segment| segment.is_note()) {
            for note in NoteWalk::new(file, segment.offset, segment.file_size) {
                let Ok(note) = note else {
                    // object does not report an empty range outside the file.
                    has_segment_fault |= segment.file_size > 0;
                    has_fault = true;
                    break;
                };
                let len = u64::from(note.desc_size);
                let desc = bytes::slice(file, note.desc_offset, len);
                let name = bytes::slice(file, note.offset + 12, note.name_size.into());
                let name = name.unwrap_or_default();
                let begins_so = name.starts_with(b"Xen") || note.is_xen;
                has_odd_name |= begins_so && name != b"Xen\0";
                if note.is_xen {
                    notes.push((note.kind, desc.unwrap_or_default().to_vec(), note.name_size));
                }
            }
        }
        let note_segments = segments.iter().filter(is_note);
        Self {
            is_wide: header.class == Class::Elf64,
            segment_size: header.segments.entry_size,
            segment_offset: header.segments.offset,
            note_segments: note_segments.clone().count(),
            has_segment_at_0: note_segments.clone().any(|segment| segment.offset == 0),
            has_wide_align: note_segments.clone().any(|segment| segment.align > 4),
            has_fault,
            has_segment_fault,
            is_forbidden: found.is_none(),
            is_from_sections: found.is_some_and(|found| {
                found.origin == pvh_elfnote::Origin::Sections && found.count > 0
            }),
            has_odd_name,
            notes,
        }
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &Vec<u8>> {
        let entries = self.notes.iter().filter(|(kind, ..)| *kind == 18);
        entries.map(|(_, desc, _)| desc)
    }

    /// Our rules about a descriptor that the others do not have.
    fn is_judged(&self) -> bool {
        self.entries().any(|desc| match desc.len() {
            4 => desc[..] == [0xff; 4],
            8 => desc[..4] == [0xff; 4] || desc[4..] != [0; 4],
            _ => true,
        })
    }
}

fn beside_object<H: FileHeader<Endian = Endianness>>(
    file: &[u8],
    segments: &[ProgramHeader],
    facts: &Facts,
    ours: Option<u32>,
) {
    let Ok(header) = H::parse(file) else {
        // object requires EI_VERSION to be 1; Xen ignores it.
        assert_ne!(file.get(6), Some(&1), "object refuses the file header");
        return;
    };
    let Ok(endian) = header.endian() else {
        panic!("object refuses the byte order");
    };
    let Ok(theirs) = header.program_headers(endian, file) else {
        // object requires the entry size of the class, while we accept a longer one, and e_phnum
        // has an escape value.
        let own = if facts.is_wide { 56 } else { 32 };
        let is_explained = facts.segment_size != own || segments.len() == 0xffff;
        assert!(is_explained, "object refuses the program headers");
        return;
    };
    if theirs.len() != segments.len() {
        // object ignores a table at offset 0, and the escape value of e_phnum.
        assert!(facts.segment_offset == 0 || segments.len() == 0xffff);
        return;
    }
    let mut last = None;
    let mut is_odd = facts.has_odd_name || facts.has_wide_align;
    for (theirs, ours) in theirs.iter().zip(segments) {
        check_segment::<H>(theirs, ours, endian);
        if ours.is_note() {
            let entries = entries::<H>(theirs, endian, file);
            is_odd |= entries.is_none();
            last = entries.and_then(|mut entries| entries.pop()).or(last);
        }
    }
    // If object reads all notes to their end, so do we.
    assert!(
        is_odd || !facts.has_segment_fault,
        "a walk stops where object's goes on"
    );
    if is_odd || facts.has_fault || facts.is_forbidden || facts.is_judged() {
        return;
    }
    if facts.is_from_sections {
        return assert_eq!(last, None);
    }
    assert_eq!(last.as_deref().and_then(low_word), ours, "beside object");
}

fn check_segment<H: FileHeader<Endian = Endianness>>(
    theirs: &H::ProgramHeader,
    ours: &ProgramHeader,
    endian: Endianness,
) {
    let fields: [u64; 7] = [
        theirs.p_type(endian).0.into(),
        theirs.p_flags(endian).0.into(),
        theirs.p_offset(endian).into(),
        theirs.p_vaddr(endian).into(),
        theirs.p_paddr(endian).into(),
        theirs.p_filesz(endian).into(),
        theirs.p_memsz(endian).into(),
    ];
    let wanted = [
        ours.kind.into(),
        ours.flags.into(),
        ours.offset,
        ours.vaddr,
        ours.paddr,
        ours.file_size,
        ours.mem_size,
    ];
    assert_eq!(fields, wanted);
}

/// The descriptors of a segment's entry notes; `None` if object cannot read all its notes.
fn entries<H: FileHeader<Endian = Endianness>>(
    segment: &H::ProgramHeader,
    endian: Endianness,
    file: &[u8],
) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let Some(mut notes) = segment.notes(endian, file).ok()? else {
        return Some(found);
    };
    while let Some(note) = notes.next().ok()? {
        if note.name() == b"Xen" && note.n_type(endian).0 == 18 {
            found.push(note.desc().to_vec());
        }
    }
    Some(found)
}

fn low_word(desc: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*desc.first_chunk()?))
}

fn beside_linux_loader(file: &[u8], segments: &[ProgramHeader], facts: &Facts, ours: Option<u32>) {
    // linux-loader reads every file as ELF64, and requires the table after the header and one entry
    // size.
    if !facts.is_wide || facts.segment_size != 56 || facts.segment_offset < 64 {
        return;
    }
    // linux-loader loads while it reads.
    let cannot_load = |segment: &ProgramHeader| {
        let ends = |at: u64, len: u64| at.checked_add(len);
        segment.kind == 1
            && segment.file_size > 0
            && (ends(segment.offset, segment.file_size).is_none_or(|end| end > file.len() as u64)
                || ends(segment.paddr, segment.file_size).is_none_or(|end| end > MEMORY_BYTES)
                || ends(segment.paddr, segment.mem_size).is_none())
    };
    if segments.iter().any(cannot_load) {
        return;
    }
    // linux-loader uses the first entry note of the last segment of notes, and the low half of its
    // descriptor. It does not search sections, and accepts a segment at offset 0.
    let is_explained = facts.note_segments > 1
        || facts.has_segment_at_0
        || facts.entries().count() > 1
        || facts.has_fault
        || facts.is_forbidden
        || facts.is_from_sections
        || facts.is_judged()
        || facts.has_odd_name
        || facts.notes.iter().any(|(.., name_size)| *name_size != 4);
    if is_explained {
        return;
    }
    let theirs = MEMORY.with(|memory| {
        let memory = memory.get_or_init(|| {
            let len = usize::try_from(MEMORY_BYTES).unwrap_or(0);
            GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), len)])
                .expect("the host has so much memory")
        });
        Elf::load(memory, None, &mut Cursor::new(file), None)
    });
    let theirs = match theirs.map(|loaded| loaded.pvh_boot_cap) {
        Ok(PvhBootCapability::PvhEntryPresent(at)) => Some(at.0),
        Ok(_) => None,
        Err(error) => panic!("linux-loader refuses the file: {error:?}"),
    };
    assert_eq!(theirs, ours.map(u64::from), "beside linux-loader");
}

const MEMORY_BYTES: u64 = 4 << 20;

thread_local! {
    static MEMORY: OnceCell<GuestMemoryMmap<()>> = const { OnceCell::new() };
}
