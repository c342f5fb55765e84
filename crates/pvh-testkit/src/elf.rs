//! Builds ELF images in code, valid and broken ones.
//!
//! [`Elf::build`] lays a file out as header, program headers, segment data, section data, section
//! headers. A field that is `None` is computed so that the file is valid. A field that is `Some`
//! goes into the header unchanged, even if it is wrong, and moves no data.
//!
//! ```
//! use pvh_testkit::elf::{Class, Elf, Note, Segment};
//!
//! let file = Elf::new(Class::Elf64)
//!     .segment(Segment::load(0x10_0000, vec![0xf4; 16]))
//!     .segment(Segment::notes(&[Note::entry(0x10_0000)]))
//!     .build();
//! assert_eq!(&file[..4], b"\x7fELF");
//! ```

mod note;
mod part;
mod write;

pub use note::{Note, note_area};
pub use part::{Section, Segment};
pub use write::Layout;

/// The width of the file's own fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "ELF has two classes")]
pub enum Class {
    /// 32-bit fields; 64-bit values keep their low half.
    Elf32,
    /// 64-bit fields.
    Elf64,
}

impl Class {
    /// Both, to loop over.
    pub const ALL: [Self; 2] = [Self::Elf32, Self::Elf64];

    /// Size of the file header in bytes.
    #[must_use]
    pub const fn header_size(self) -> u16 {
        match self {
            Self::Elf32 => 52,
            Self::Elf64 => 64,
        }
    }

    /// Size of a program header in bytes.
    #[must_use]
    pub const fn segment_size(self) -> u16 {
        match self {
            Self::Elf32 => 32,
            Self::Elf64 => 56,
        }
    }

    /// Size of a section header in bytes.
    #[must_use]
    pub const fn section_size(self) -> u16 {
        match self {
            Self::Elf32 => 40,
            Self::Elf64 => 64,
        }
    }
}

/// The byte order of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "ELF has two byte orders")]
pub enum Endian {
    /// ELFDATA2LSB.
    Little,
    /// ELFDATA2MSB.
    Big,
}

/// Fields of the file header with other values than [`Elf::build`] would write.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderOverride {
    /// The first four bytes.
    pub magic: Option<[u8; 4]>,
    /// `e_ident[EI_CLASS]`.
    pub ident_class: Option<u8>,
    /// `e_ident[EI_DATA]`.
    pub ident_data: Option<u8>,
    /// `e_ehsize`.
    pub header_size: Option<u16>,
    /// `e_phoff`.
    pub segments_offset: Option<u64>,
    /// `e_phentsize`; the table is written with the class's own size.
    pub segment_size: Option<u16>,
    /// `e_phnum`.
    pub segment_count: Option<u16>,
    /// `e_shoff`.
    pub sections_offset: Option<u64>,
    /// `e_shentsize`; the table is written with the class's own size.
    pub section_size: Option<u16>,
    /// `e_shnum`.
    pub section_count: Option<u16>,
    /// `e_shstrndx`.
    pub names_index: Option<u16>,
}

/// The description of an ELF image.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Width of the fields.
    pub class: Class,
    /// Byte order of the headers; notes have their own.
    pub endian: Endian,
    /// `e_type`: 2 (ET_EXEC) by default.
    pub kind: u16,
    /// `e_machine`: by default 3 (EM_386) or 62 (EM_X86_64), depending on the class.
    pub machine: u16,
    /// `e_entry`, which PVH ignores.
    pub entry: u64,
    /// The program headers, in table order.
    pub segments: Vec<Segment>,
    /// The section headers, in table order, from index 1 on; a name table follows them.
    pub sections: Vec<Section>,
    /// Other values for the file header.
    pub header: HeaderOverride,
    /// Bytes appended to the file.
    pub trailer: Vec<u8>,
}

impl Elf {
    /// Starts an executable without segments and sections.
    #[must_use]
    pub const fn new(class: Class) -> Self {
        Self {
            class,
            endian: Endian::Little,
            kind: 2,
            machine: match class {
                Class::Elf32 => 3,
                Class::Elf64 => 62,
            },
            entry: 0,
            segments: Vec::new(),
            sections: Vec::new(),
            header: HeaderOverride {
                magic: None,
                ident_class: None,
                ident_data: None,
                header_size: None,
                segments_offset: None,
                segment_size: None,
                segment_count: None,
                sections_offset: None,
                section_size: None,
                section_count: None,
                names_index: None,
            },
            trailer: Vec::new(),
        }
    }

    /// The smallest image that Xen would boot: one loadable segment at `entry`, one entry note.
    #[must_use]
    pub fn bootable(class: Class, entry: u32) -> Self {
        Self::new(class)
            .segment(Segment::load(u64::from(entry), vec![0xf4; 16]))
            .segment(Segment::notes(&[Note::entry(entry)]))
    }

    /// Sets the byte order.
    #[must_use]
    pub const fn endian(mut self, endian: Endian) -> Self {
        self.endian = endian;
        self
    }

    /// Sets `e_type`.
    #[must_use]
    pub const fn kind(mut self, kind: u16) -> Self {
        self.kind = kind;
        self
    }

    /// Sets `e_machine`.
    #[must_use]
    pub const fn machine(mut self, machine: u16) -> Self {
        self.machine = machine;
        self
    }

    /// Sets `e_entry`.
    #[must_use]
    pub const fn entry(mut self, entry: u64) -> Self {
        self.entry = entry;
        self
    }

    /// Appends a program header and its data.
    #[must_use]
    pub fn segment(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self
    }

    /// Appends a section header and its data.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Appends bytes after everything else.
    #[must_use]
    pub fn trailer(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.trailer = bytes.into();
        self
    }

    /// Changes values of the file header.
    #[must_use]
    pub fn with_header(mut self, change: impl FnOnce(&mut HeaderOverride)) -> Self {
        change(&mut self.header);
        self
    }

    /// Writes the file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        self.build_with_layout().0
    }

    /// Writes the file, and returns where everything is.
    #[must_use]
    pub fn build_with_layout(&self) -> (Vec<u8>, Layout) {
        write::write(self)
    }
}

#[cfg(test)]
mod tests;
