//! Why a file is not a kernel for PVH, and what would help.

use std::{fmt, io};

use pvh_elfnote::{ElfError, FaultReason, NoEntry, NoteError};

use super::{
    codec::{Codec, UnpackError},
    lookalike::Lookalike,
};

/// Why a file cannot be booted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file cannot be opened.
    #[error("cannot open the kernel")]
    Open {
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The file is a directory.
    #[error("the kernel is a directory")]
    Directory,
    /// The file is a device.
    #[error("the kernel is neither a regular file nor a pipe")]
    NotAFile,
    /// The file has no bytes.
    #[error("the kernel file is empty")]
    Empty,
    /// The file is too short to be a kernel.
    #[error("the kernel file has only {len_bytes} bytes")]
    TooShort {
        /// Its length.
        len_bytes: u64,
    },
    /// The file is longer than the limit for files that are read into memory.
    #[error("the kernel file is longer than the limit of {limit_bytes} bytes")]
    FileTooLarge {
        /// [`Limits::max_file_bytes`](crate::image::Limits::max_file_bytes).
        limit_bytes: u64,
    },
    /// The host has too little memory.
    #[error("not enough host memory for the {len_bytes} bytes of the kernel")]
    NoMemory {
        /// The length asked for.
        len_bytes: u64,
    },
    /// The file cannot be read.
    #[error("cannot read {len_bytes} bytes at offset {offset:#x} of the kernel")]
    Read {
        /// Where in the file, or in the unpacked ELF.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
        /// The host's reason; `UnexpectedEof` if the file has become shorter.
        #[source]
        source: io::Error,
    },
    /// The file ends inside a structure.
    #[error("the kernel file is truncated: {what} does not fit into its {len_bytes} bytes")]
    Truncated {
        /// Which structure.
        what: &'static str,
        /// Length of the file.
        len_bytes: u64,
    },
    /// The file is neither an ELF nor a bzImage.
    #[error("neither an ELF nor a bzImage{}", Looks(.looks_like, .head))]
    UnknownFormat {
        /// The format that its first bytes show, if it is a known one.
        looks_like: Option<Lookalike>,
        /// Its first bytes, zeros beyond its end.
        head: [u8; 4],
    },
    /// The bzImage is too old: its setup header does not say where the payload is.
    #[error(
        "the bzImage has boot protocol {major}.{minor:02}, which does not say where the kernel is"
    )]
    OldBootProtocol {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The bzImage says that its payload has 0 bytes.
    #[error("the bzImage has no payload")]
    NoPayload,
    /// The payload does not lie inside the file; most often the file is truncated.
    #[error(
        "the bzImage's payload, {len_bytes} bytes at offset {offset:#x}, runs past the file's \
         {file_bytes} bytes"
    )]
    PayloadOutside {
        /// Where it begins in the file.
        offset: u64,
        /// Its length.
        len_bytes: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// The payload's compression is unknown.
    #[error(
        "the bzImage's payload at offset {offset:#x} has an unknown compression (it begins with \
         {})", Hex(.magic)
    )]
    UnknownCodec {
        /// Where it begins in the file.
        offset: u64,
        /// Its first bytes.
        magic: [u8; 6],
    },
    /// The packed kernel cannot be unpacked.
    #[error("the {} stream at offset {offset:#x} of the kernel file cannot be unpacked", .codec.name())]
    Unpack {
        /// The codec.
        codec: Codec,
        /// Where the stream begins in the file.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// The unpacked file is not an ELF.
    #[error("the {} stream does not contain an ELF{}", .codec.name(), Looks(.looks_like, .head))]
    UnpackedNotElf {
        /// The codec.
        codec: Codec,
        /// The format that its first bytes show, if it is a known one.
        looks_like: Option<Lookalike>,
        /// Its first bytes, zeros beyond its end.
        head: [u8; 4],
    },
    /// The ELF headers are wrong.
    #[error("the ELF headers are invalid")]
    Elf {
        /// What is wrong with them, and where.
        #[source]
        source: ElfError,
    },
    /// The notes are wrong.
    #[error("the ELF notes are invalid")]
    Notes {
        /// What is wrong with them, and where.
        #[source]
        source: NoteError,
    },
    /// The ELF is not for x86.
    #[error("the ELF is for machine {machine} ({}), not for x86", machine_name(*.machine))]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// The ELF has no loadable segment.
    #[error("the ELF has no loadable segment")]
    NoSegments,
    /// The ELF is an object file that has not been linked.
    #[error("the ELF is a relocatable object, not a linked kernel")]
    NotLinked,
    /// The entry note is in a section of the wrong type, where neither Xen nor this loader finds
    /// it.
    #[error("section {index} has the Xen entry note, but its type is PROGBITS instead of NOTE")]
    NoteSectionType {
        /// The index of the section.
        index: u16,
    },
    /// No note gives the entry point of a PVH guest.
    #[error("the kernel has no PVH entry point")]
    NoEntry {
        /// The reason.
        #[source]
        source: NoEntry,
    },
}

impl ImageError {
    /// Returns what the user can do about it, if there is something to do.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        Some(match self {
            Self::Directory => "give the kernel file in it",
            Self::NotAFile | Self::Empty | Self::TooShort { .. } => TAKE,
            Self::Truncated { .. } | Self::PayloadOutside { .. } => {
                "copy or download the file again"
            }
            Self::UnknownFormat { looks_like, .. } => looks_like.map_or(TAKE, |known| known.fix),
            Self::Elf { .. } | Self::Notes { .. } => {
                "copy or download the file again, or build it again"
            }
            Self::OldBootProtocol { .. } | Self::NoPayload => {
                "take a kernel from 2.6.24 or later, or give its unpacked vmlinux"
            }
            Self::UnknownCodec { .. } => "unpack it (scripts/extract-vmlinux) and give the vmlinux",
            Self::Unpack { source, .. } => unpack_fix(source)?,
            Self::UnpackedNotElf { looks_like, .. } => {
                looks_like.map_or("unpack it and give the ELF in it", |known| known.fix)
            }
            Self::NoEntry { source } => entry_fix(source),
            Self::Machine { .. } => "give a kernel for x86 or x86-64",
            Self::NotLinked => {
                "link it: ld -T with a linker script that gives the kernel its addresses"
            }
            Self::NoSegments => "link the kernel with a loadable segment (PT_LOAD)",
            Self::NoteSectionType { .. } => {
                "declare it as a note: .section .note.Xen, \"a\", @note"
            }
            Self::FileTooLarge { .. } => {
                "if you trust the file, unpack it first and give the ELF by its name"
            }
            _ => return None,
        })
    }
}

fn entry_fix(why: &NoEntry) -> &'static str {
    match why {
        NoEntry::Cut(_) => {
            "the notes are malformed or the file is truncated: copy it again, or build it with the note \
             XEN_ELFNOTE_PHYS32_ENTRY"
        }
        NoEntry::Refused(fault) => match fault.reason {
            FaultReason::TooWide { .. } => {
                "give the note XEN_ELFNOTE_PHYS32_ENTRY the physical address of the entry, not the virtual one"
            }
            FaultReason::DescSize { .. } => {
                "give the note XEN_ELFNOTE_PHYS32_ENTRY a descriptor of 4 bytes: the physical address of the entry"
            }
            FaultReason::Unset => {
                "give the note XEN_ELFNOTE_PHYS32_ENTRY the physical address of the entry"
            }
            _ => "the entry note is malformed or the file is truncated: copy it or build it again",
        },
        NoEntry::NoEntryNote { .. } => {
            "a kernel for Xen PV guests alone cannot be booted: take one for PVH (Linux: CONFIG_PVH=y), or give it the \
             note XEN_ELFNOTE_PHYS32_ENTRY"
        }
        _ => {
            "build the kernel with CONFIG_PVH=y (Linux), or give it the note XEN_ELFNOTE_PHYS32_ENTRY"
        }
    }
}

fn unpack_fix(error: &UnpackError) -> Option<&'static str> {
    match error {
        UnpackError::TooLarge { .. } => {
            Some("if you trust the file, unpack it first and give the ELF")
        }
        UnpackError::NoMemory { .. } => None,
        _ => Some("copy or download the file again"),
    }
}

const TAKE: &str = "give an ELF (vmlinux) or a bzImage (vmlinuz)";

/// Names the machines that kernels are often built for.
fn machine_name(machine: u16) -> &'static str {
    match machine {
        2 | 43 => "SPARC",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "s390",
        40 => "ARM",
        183 => "AArch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => "unknown",
    }
}

/// Shows the format that the first bytes name, or the bytes.
struct Looks<'a>(&'a Option<Lookalike>, &'a [u8; 4]);

impl fmt::Display for Looks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(known) => write!(f, "; it looks like {}", known.name),
            None => write!(f, "; it begins with {}", Hex(self.1)),
        }
    }
}

/// Bytes in hexadecimal, with spaces between them.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(looks_like: Option<&'static str>) -> ImageError {
        ImageError::UnknownFormat {
            looks_like: looks_like.map(|name| Lookalike {
                name,
                fix: "use it",
            }),
            head: *b"MZ\0\0",
        }
    }

    fn unpacking(source: UnpackError) -> ImageError {
        ImageError::Unpack {
            codec: Codec::Xz,
            offset: 0,
            source,
        }
    }

    #[test]
    fn a_machine_is_named_by_its_number_in_the_elf_specification() {
        let names = [
            (2, "SPARC"),
            (43, "SPARC"),
            (8, "MIPS"),
            (20, "PowerPC"),
            (21, "PowerPC"),
            (22, "s390"),
            (40, "ARM"),
            (183, "AArch64"),
            (243, "RISC-V"),
            (258, "LoongArch"),
            (7, "unknown"),
        ];
        for (machine, name) in names {
            let error = ImageError::Machine { machine };
            let shown = format!("the ELF is for machine {machine} ({name}), not for x86");
            assert_eq!(error.to_string(), shown);
            assert_eq!(error.fix(), Some("give a kernel for x86 or x86-64"));
        }
    }

    #[test]
    fn each_mistake_has_its_fix() {
        let truncated = ImageError::Truncated {
            what: "the setup header",
            len_bytes: 1,
        };
        let outside = ImageError::PayloadOutside {
            offset: 1,
            len_bytes: 1,
            file_bytes: 1,
        };
        let codec = ImageError::UnknownCodec {
            offset: 0,
            magic: [0; 6],
        };
        let old = ImageError::OldBootProtocol { major: 2, minor: 7 };
        let inner = ImageError::UnpackedNotElf {
            codec: Codec::Gzip,
            looks_like: None,
            head: [0; 4],
        };
        let too_large = UnpackError::TooLarge { limit_bytes: 1 };
        for (error, fix) in [
            (ImageError::Directory, "give the kernel file in it"),
            (ImageError::NotAFile, "give an ELF (vmlinux)"),
            (ImageError::Empty, "give an ELF (vmlinux)"),
            (
                ImageError::TooShort { len_bytes: 1 },
                "give an ELF (vmlinux)",
            ),
            (truncated, "copy or download the file again"),
            (outside, "copy or download the file again"),
            (old, "take a kernel from 2.6.24 or later"),
            (ImageError::NoPayload, "take a kernel from 2.6.24 or later"),
            (codec, "scripts/extract-vmlinux"),
            (inner, "unpack it and give the ELF in it"),
            (
                ImageError::FileTooLarge { limit_bytes: 1 },
                "give the ELF by its name",
            ),
            (unknown(Some("a script")), "use it"),
            (ImageError::NotLinked, "link it"),
            (ImageError::NoSegments, "PT_LOAD"),
            (ImageError::NoteSectionType { index: 2 }, "@note"),
            (unknown(None), "give an ELF (vmlinux)"),
            (unpacking(too_large), "unpack it first"),
            (unpacking(UnpackError::Truncated { offset: 0 }), "again"),
        ] {
            let told = error.fix().unwrap_or_default();
            assert!(told.contains(fix), "{error}: {told}");
        }
        let no_memory = UnpackError::NoMemory { len_bytes: 1 };
        assert_eq!(unpacking(no_memory).fix(), None);
    }

    #[test]
    fn an_unknown_format_shows_what_it_is_or_how_it_begins() {
        let shown = unknown(Some("an EFI program")).to_string();
        assert!(shown.ends_with("bzImage; it looks like an EFI program"));
        let shown = unknown(None).to_string();
        assert!(shown.ends_with("bzImage; it begins with 4d 5a 00 00"));
    }
}
