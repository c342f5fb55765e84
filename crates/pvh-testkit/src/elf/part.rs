//! Segments and sections of an ELF image.

use super::{Note, note_area};

/// A program header and its bytes.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`: 4 is R, 2 is W, 1 is X.
    pub flags: u32,
    /// `p_offset`, if it is not the offset of the data.
    pub offset: Option<u64>,
    /// `p_vaddr`.
    pub vaddr: u64,
    /// `p_paddr`.
    pub paddr: u64,
    /// `p_filesz`, if it is not the length of the data.
    pub file_size: Option<u64>,
    /// `p_memsz`, if it is not the length of the data.
    pub mem_size: Option<u64>,
    /// `p_align`.
    pub align: u64,
    /// The bytes in the file.
    pub data: Vec<u8>,
}

impl Segment {
    /// PT_LOAD, readable, writable and executable, linked where it is placed.
    #[must_use]
    pub fn load(paddr: u64, data: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: 1,
            flags: 7,
            vaddr: paddr,
            paddr,
            align: 0x1000,
            data: data.into(),
            ..Self::default()
        }
    }

    /// PT_NOTE with these records.
    #[must_use]
    pub fn notes(notes: &[Note]) -> Self {
        Self::note_bytes(note_area(notes))
    }

    /// PT_NOTE with these bytes.
    #[must_use]
    pub fn note_bytes(data: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: 4,
            flags: 4,
            align: 4,
            data: data.into(),
            ..Self::default()
        }
    }

    /// Changes any field.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Sets `p_flags`.
    #[must_use]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Sets `p_memsz`.
    #[must_use]
    pub const fn mem_size(mut self, bytes: u64) -> Self {
        self.mem_size = Some(bytes);
        self
    }

    /// Sets `p_filesz`.
    #[must_use]
    pub const fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Sets `p_offset`.
    #[must_use]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Sets `p_align`.
    #[must_use]
    pub const fn align(mut self, align: u64) -> Self {
        self.align = align;
        self
    }
}

/// A section header and its bytes.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The name.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addr`.
    pub addr: u64,
    /// `sh_offset`, if it is not the offset of the data (for example of a section inside a
    /// segment).
    pub offset: Option<u64>,
    /// `sh_size`, if it is not the length of the data.
    pub size: Option<u64>,
    /// `sh_addralign`.
    pub align: u64,
    /// The bytes in the file.
    pub data: Vec<u8>,
}

impl Section {
    /// SHT_NOTE with these records.
    #[must_use]
    pub fn notes(name: &str, notes: &[Note]) -> Self {
        Self::note_bytes(name, note_area(notes))
    }

    /// SHT_NOTE with these bytes.
    #[must_use]
    pub fn note_bytes(name: &str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            kind: 7,
            align: 4,
            data: data.into(),
            ..Self::default()
        }
    }

    /// Changes any field.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
