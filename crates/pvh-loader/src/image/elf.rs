//! Reads the headers and notes of an ELF, once.

use pvh_abi::elfnote::XenNoteType;
use pvh_elfnote::{Header, NoteWalk, ProgramHeader, ReadError, Source, XenNotes, find_notes};

use super::{error::ImageError, source::Backing};

/// The headers and notes of an opened ELF.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) header: Header,
    /// All program headers, in table order.
    pub(crate) segments: Vec<ProgramHeader>,
    pub(crate) notes: XenNotes,
    /// The index of a section that is not a note section and begins with a Xen entry note.
    misplaced_note: Option<u16>,
}

impl Headers {
    pub(crate) fn read(elf: &Backing) -> Result<Self, ImageError> {
        let header = Header::read(elf).map_err(|source| ImageError::Elf { source })?;
        let segments: Result<Vec<_>, _> = header.segments(elf).collect();
        let segments = segments.map_err(|source| ImageError::Elf { source })?;
        let notes = find_notes(elf, &header, segments.iter().copied());
        let notes = notes.map_err(|source| ImageError::Notes { source })?;
        let misplaced_note = match notes.entry {
            Some(_) => None,
            None => misplaced_note(elf, &header),
        };
        Ok(Self {
            header,
            segments,
            notes,
            misplaced_note,
        })
    }

    /// The segments that are loaded.
    pub(crate) fn loads(&self) -> impl Iterator<Item = ProgramHeader> {
        self.segments.iter().copied().filter(ProgramHeader::is_load)
    }

    /// Returns the entry point, or why this is not a kernel for PVH.
    pub(crate) fn entry(&self) -> Result<u32, ImageError> {
        let machine = self.header.machine;
        if !MACHINES.contains(&machine) {
            return Err(ImageError::Machine { machine });
        }
        if self.loads().next().is_none() {
            return Err(match self.header.kind {
                ET_REL => ImageError::NotLinked,
                _ => ImageError::NoSegments,
            });
        }
        self.notes.require_entry().map_err(|source| {
            let misplaced = self.misplaced_note.filter(|_| self.notes.count == 0);
            let named = misplaced.map(|index| ImageError::NoteSectionType { index });
            named.unwrap_or(ImageError::NoEntry { source })
        })
    }
}

impl Source for Backing {
    fn len_bytes(&self) -> u64 {
        Self::len_bytes(self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let len_bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.read(offset, buf)
            .map_err(|_| ReadError { offset, len_bytes })
    }
}

/// Finds the first section of type PROGBITS that begins with a Xen entry note.
fn misplaced_note(elf: &Backing, header: &Header) -> Option<u16> {
    let sections = (0..).zip(header.section_headers(elf).map_while(Result::ok));
    let mut data = sections.filter(|(_, section)| section.kind == SHT_PROGBITS);
    data.find_map(|(index, section)| {
        let mut walk = NoteWalk::new(elf, section.offset, section.size);
        let first = walk.next()?.ok()?;
        (first.xen_kind() == Some(XenNoteType::PHYS32_ENTRY)).then_some(index)
    })
}

/// `e_type` of an object file.
const ET_REL: u16 = 1;

/// `sh_type` of a section with data of the program.
const SHT_PROGBITS: u32 = 1;

/// EM_386 and EM_X86_64.
const MACHINES: [u16; 2] = [3, 62];
