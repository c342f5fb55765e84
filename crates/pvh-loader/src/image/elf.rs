//! Reads the headers and notes of an ELF, once.

use pvh_elfnote::{Header, ProgramHeader, ReadError, Source, XenNotes, find_notes};

use super::{error::ImageError, source::Backing};

/// The headers and notes of an opened ELF.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) header: Header,
    /// All program headers, in table order.
    pub(crate) segments: Vec<ProgramHeader>,
    pub(crate) notes: XenNotes,
}

impl Headers {
    pub(crate) fn read(elf: &Backing) -> Result<Self, ImageError> {
        let header = Header::read(elf).map_err(|source| ImageError::Elf { source })?;
        let segments: Result<Vec<_>, _> = header.segments(elf).collect();
        let segments = segments.map_err(|source| ImageError::Elf { source })?;
        let notes = find_notes(elf, &header, segments.iter().copied());
        let notes = notes.map_err(|source| ImageError::Notes { source })?;
        Ok(Self {
            header,
            segments,
            notes,
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
            return Err(ImageError::NoSegments);
        }
        self.notes
            .require_entry()
            .map_err(|source| ImageError::NoEntry { source })
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

/// EM_386 and EM_X86_64.
const MACHINES: [u16; 2] = [3, 62];
