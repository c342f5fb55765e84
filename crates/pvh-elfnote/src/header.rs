//! Reads and checks the file header and the header tables.

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    ElfError, ElfReason, ProgramHeader, ReadError, SectionHeader, Source, TableKind,
    wire::{Header32, Header64, Ident},
};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_OFFSET: u64 = 4;
const DATA_OFFSET: u64 = 5;

/// The width of the file's own fields; it says nothing about the code inside.
///
/// PVH guests are entered in 32-bit mode in both classes, and some 64-bit kernels are wrapped in
/// ELF32 files.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "ELF has two classes")]
pub enum Class {
    /// 32-bit fields.
    #[doc(alias = "ELFCLASS32")]
    Elf32,
    /// 64-bit fields.
    #[doc(alias = "ELFCLASS64")]
    Elf64,
}

/// Where a header table lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its first byte, from the start of the file.
    pub offset: u64,
    /// The distance in bytes from one entry to the next.
    pub entry_size: u16,
    /// The number of entries.
    pub count: u16,
}

/// The content of the file header.
///
/// Both tables lie in the file. Type, machine, flags and entry are recorded but not checked: Xen
/// ignores them for a PVH guest.
#[doc(alias = "Elf32_Ehdr")]
#[doc(alias = "Elf64_Ehdr")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The width of the fields.
    pub class: Class,
    /// `e_type`: 2 executable, 3 shared (position independent).
    pub kind: u16,
    /// `e_machine`: 3 for i386, 62 for x86-64.
    pub machine: u16,
    /// `e_entry`, which PVH ignores.
    pub entry: u64,
    /// `e_flags`.
    pub flags: u32,
    /// The program headers.
    pub segments: Table,
    /// The section headers.
    pub sections: Table,
}

impl Header {
    /// Reads and checks the file header.
    ///
    /// # Errors
    ///
    /// [`ElfError`] if the file is too short, has another magic, class or byte order, if a table
    /// does not lie in the file, or if program headers are smaller than their class's. Section
    /// headers that are too small are only refused when one is read, because most files never need
    /// them.
    pub fn read<S: Source + ?Sized>(source: &S) -> Result<Self, ElfError> {
        let mut ident = Ident::new_zeroed();
        read_start(source, ident.as_mut_bytes())?;
        let header = match check_ident(&ident)? {
            Class::Elf32 => {
                let mut raw = Header32::new_zeroed();
                read_start(source, raw.as_mut_bytes())?;
                Self::from_32(&raw)
            }
            Class::Elf64 => {
                let mut raw = Header64::new_zeroed();
                read_start(source, raw.as_mut_bytes())?;
                Self::from_64(&raw)
            }
        };
        check_table(&header.segments, TableKind::Segments, source.len_bytes())?;
        check_table(&header.sections, TableKind::Sections, source.len_bytes())?;
        header.check_entry_size(TableKind::Segments)?;
        Ok(header)
    }

    /// Reads program header `index`.
    ///
    /// # Errors
    ///
    /// [`ElfError`] if there is no such entry or the source fails.
    pub fn segment<S: Source + ?Sized>(
        &self,
        source: &S,
        index: u16,
    ) -> Result<ProgramHeader, ElfError> {
        let offset = self.entry_offset(TableKind::Segments, index)?;
        ProgramHeader::read(source, self.class, offset).map_err(unreadable)
    }

    /// Reads all program headers in table order.
    pub fn segments<'s, S: Source + ?Sized>(
        &self,
        source: &'s S,
    ) -> impl Iterator<Item = Result<ProgramHeader, ElfError>> + use<'s, S> {
        let header = *self;
        (0..header.segments.count).map(move |index| header.segment(source, index))
    }

    /// Reads section header `index`.
    ///
    /// # Errors
    ///
    /// [`ElfError`] if there is no such entry, if entries are smaller than their class's, or if the
    /// source fails.
    pub fn section<S: Source + ?Sized>(
        &self,
        source: &S,
        index: u16,
    ) -> Result<SectionHeader, ElfError> {
        let offset = self.entry_offset(TableKind::Sections, index)?;
        SectionHeader::read(source, self.class, offset).map_err(unreadable)
    }

    /// Reads all section headers in table order, the null section at index 0 included.
    pub fn section_headers<'s, S: Source + ?Sized>(
        &self,
        source: &'s S,
    ) -> impl Iterator<Item = Result<SectionHeader, ElfError>> + use<'s, S> {
        let header = *self;
        (0..header.sections.count).map(move |index| header.section(source, index))
    }

    fn entry_offset(&self, kind: TableKind, index: u16) -> Result<u64, ElfError> {
        let table = self.table(kind);
        self.check_entry_size(kind)?;
        if index >= table.count {
            let reason = ElfReason::Index {
                table: kind,
                index,
                count: table.count,
            };
            return Err(ElfError {
                offset: table.offset,
                reason,
            });
        }
        let distance = u64::from(table.entry_size).saturating_mul(u64::from(index));
        Ok(table.offset.saturating_add(distance))
    }

    fn check_entry_size(&self, kind: TableKind) -> Result<(), ElfError> {
        let table = self.table(kind);
        let (field, need) = match (self.class, kind) {
            (Class::Elf32, TableKind::Segments) => (42, 32),
            (Class::Elf64, TableKind::Segments) => (54, 56),
            (Class::Elf32, TableKind::Sections) => (46, 40),
            (Class::Elf64, TableKind::Sections) => (58, 64),
        };
        if table.count > 0 && table.entry_size < need {
            let reason = ElfReason::EntrySize {
                table: kind,
                size: table.entry_size,
                need,
            };
            return Err(ElfError {
                offset: field,
                reason,
            });
        }
        Ok(())
    }

    const fn table(&self, kind: TableKind) -> &Table {
        match kind {
            TableKind::Segments => &self.segments,
            TableKind::Sections => &self.sections,
        }
    }

    fn from_32(raw: &Header32) -> Self {
        Self {
            class: Class::Elf32,
            kind: raw.kind.get(),
            machine: raw.machine.get(),
            entry: raw.entry.get().into(),
            flags: raw.flags.get(),
            segments: Table {
                offset: raw.segments_offset.get().into(),
                entry_size: raw.segment_size.get(),
                count: raw.segment_count.get(),
            },
            sections: Table {
                offset: raw.sections_offset.get().into(),
                entry_size: raw.section_size.get(),
                count: raw.section_count.get(),
            },
        }
    }

    fn from_64(raw: &Header64) -> Self {
        Self {
            class: Class::Elf64,
            kind: raw.kind.get(),
            machine: raw.machine.get(),
            entry: raw.entry.get(),
            flags: raw.flags.get(),
            segments: Table {
                offset: raw.segments_offset.get(),
                entry_size: raw.segment_size.get(),
                count: raw.segment_count.get(),
            },
            sections: Table {
                offset: raw.sections_offset.get(),
                entry_size: raw.section_size.get(),
                count: raw.section_count.get(),
            },
        }
    }
}

fn read_start<S: Source + ?Sized>(source: &S, buf: &mut [u8]) -> Result<(), ElfError> {
    let (len_bytes, need_bytes) = (source.len_bytes(), buf.len() as u64);
    if len_bytes < need_bytes {
        let reason = ElfReason::Short {
            len_bytes,
            need_bytes,
        };
        return Err(ElfError {
            offset: len_bytes,
            reason,
        });
    }
    source.read_at(0, buf).map_err(unreadable)
}

fn check_ident(ident: &Ident) -> Result<Class, ElfError> {
    let fail = |offset, reason| Err(ElfError { offset, reason });
    if ident.magic != MAGIC {
        return fail(0, ElfReason::Magic(ident.magic));
    }
    let class = match ident.class {
        1 => Class::Elf32,
        2 => Class::Elf64,
        other => return fail(CLASS_OFFSET, ElfReason::Class(other)),
    };
    match ident.data {
        1 => Ok(class),
        2 => fail(DATA_OFFSET, ElfReason::BigEndian),
        other => fail(DATA_OFFSET, ElfReason::Encoding(other)),
    }
}

/// As in libelf, the whole table must lie in the file, and an empty table must at least begin
/// there.
fn check_table(table: &Table, kind: TableKind, file_bytes: u64) -> Result<(), ElfError> {
    let len_bytes = u64::from(table.entry_size).saturating_mul(u64::from(table.count));
    let end = table.offset.checked_add(len_bytes);
    if end.is_some_and(|end| end <= file_bytes) {
        return Ok(());
    }
    let reason = ElfReason::Outside {
        table: kind,
        offset: table.offset,
        len_bytes,
        file_bytes,
    };
    Err(ElfError {
        offset: table.offset,
        reason,
    })
}

fn unreadable(error: ReadError) -> ElfError {
    ElfError {
        offset: error.offset,
        reason: ElfReason::Unreadable(error),
    }
}
