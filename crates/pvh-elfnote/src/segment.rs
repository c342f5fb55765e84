//! Program headers and section headers.

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    Class, ReadError, Source,
    wire::{Section32, Section64, Segment32, Segment64},
};

/// A segment that is loaded.
pub const PT_LOAD: u32 = 1;
/// A segment of notes.
pub const PT_NOTE: u32 = 4;
/// The segment is executable.
pub const PF_X: u32 = 1;
/// The segment is writable.
pub const PF_W: u32 = 2;
/// The segment is readable.
pub const PF_R: u32 = 4;
/// A section of notes.
pub const SHT_NOTE: u32 = 7;

/// One program header, widened to 64 bits.
#[doc(alias = "Elf32_Phdr")]
#[doc(alias = "Elf64_Phdr")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProgramHeader {
    /// `p_type`, see [`PT_LOAD`] and [`PT_NOTE`].
    pub kind: u32,
    /// `p_flags`: [`PF_R`], [`PF_W`], [`PF_X`].
    pub flags: u32,
    /// `p_offset`: where the bytes are in the file.
    pub offset: u64,
    /// `p_vaddr`, which PVH ignores.
    pub vaddr: u64,
    /// `p_paddr`: the guest-physical address.
    pub paddr: u64,
    /// `p_filesz`: length in the file, in bytes.
    pub file_size: u64,
    /// `p_memsz`: length in memory, in bytes.
    pub mem_size: u64,
    /// `p_align`.
    pub align: u64,
}

impl ProgramHeader {
    /// Tells whether the segment is loaded: PT_LOAD with any of R, W and X (libelf's rule).
    #[must_use]
    pub const fn is_load(&self) -> bool {
        self.kind == PT_LOAD && self.flags & (PF_R | PF_W | PF_X) != 0
    }

    /// Tells whether it is searched for notes: PT_NOTE, unless `p_offset` is 0, as some linkers
    /// leave it.
    #[must_use]
    pub const fn is_note(&self) -> bool {
        self.kind == PT_NOTE && self.offset != 0
    }

    pub(crate) fn read<S: Source + ?Sized>(
        source: &S,
        class: Class,
        offset: u64,
    ) -> Result<Self, ReadError> {
        Ok(match class {
            Class::Elf32 => {
                let mut raw = Segment32::new_zeroed();
                source.read_at(offset, raw.as_mut_bytes())?;
                Self {
                    kind: raw.kind.get(),
                    flags: raw.flags.get(),
                    offset: raw.offset.get().into(),
                    vaddr: raw.vaddr.get().into(),
                    paddr: raw.paddr.get().into(),
                    file_size: raw.file_size.get().into(),
                    mem_size: raw.mem_size.get().into(),
                    align: raw.align.get().into(),
                }
            }
            Class::Elf64 => {
                let mut raw = Segment64::new_zeroed();
                source.read_at(offset, raw.as_mut_bytes())?;
                Self {
                    kind: raw.kind.get(),
                    flags: raw.flags.get(),
                    offset: raw.offset.get(),
                    vaddr: raw.vaddr.get(),
                    paddr: raw.paddr.get(),
                    file_size: raw.file_size.get(),
                    mem_size: raw.mem_size.get(),
                    align: raw.align.get(),
                }
            }
        })
    }
}

/// One section header, widened to 64 bits.
#[doc(alias = "Elf32_Shdr")]
#[doc(alias = "Elf64_Shdr")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SectionHeader {
    /// `sh_name`: offset of the name in the name table.
    pub name: u32,
    /// `sh_type`, see [`SHT_NOTE`].
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addr`.
    pub addr: u64,
    /// `sh_offset`: where the bytes are in the file.
    pub offset: u64,
    /// `sh_size`: their length in bytes.
    pub size: u64,
    /// `sh_link`.
    pub link: u32,
    /// `sh_info`.
    pub info: u32,
    /// `sh_addralign`.
    pub align: u64,
}

impl SectionHeader {
    /// Tells whether it is searched for notes.
    #[must_use]
    pub const fn is_note(&self) -> bool {
        self.kind == SHT_NOTE
    }

    pub(crate) fn read<S: Source + ?Sized>(
        source: &S,
        class: Class,
        offset: u64,
    ) -> Result<Self, ReadError> {
        Ok(match class {
            Class::Elf32 => {
                let mut raw = Section32::new_zeroed();
                source.read_at(offset, raw.as_mut_bytes())?;
                Self {
                    name: raw.name.get(),
                    kind: raw.kind.get(),
                    flags: raw.flags.get().into(),
                    addr: raw.addr.get().into(),
                    offset: raw.offset.get().into(),
                    size: raw.size.get().into(),
                    link: raw.link.get(),
                    info: raw.info.get(),
                    align: raw.align.get().into(),
                }
            }
            Class::Elf64 => {
                let mut raw = Section64::new_zeroed();
                source.read_at(offset, raw.as_mut_bytes())?;
                Self {
                    name: raw.name.get(),
                    kind: raw.kind.get(),
                    flags: raw.flags.get(),
                    addr: raw.addr.get(),
                    offset: raw.offset.get(),
                    size: raw.size.get(),
                    link: raw.link.get(),
                    info: raw.info.get(),
                    align: raw.align.get(),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_without_any_right_is_not_loaded() {
        let header = |kind, flags| ProgramHeader {
            kind,
            flags,
            ..ProgramHeader::default()
        };
        assert!(!header(1, 0).is_load() && !header(1, 8).is_load());
        for right in [1, 2, 4] {
            assert!(header(1, right).is_load() && !header(4, right).is_load());
        }
    }

    #[test]
    fn a_note_segment_at_offset_0_is_skipped() {
        let header = |offset| ProgramHeader {
            kind: 4,
            offset,
            ..ProgramHeader::default()
        };
        assert!(!header(0).is_note() && header(1).is_note());
    }
}
