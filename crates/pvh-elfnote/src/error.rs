//! Errors about the headers of an ELF file.

use core::fmt;

use crate::ReadError;

/// The reason why a file is not a readable ELF file, and the place in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ELF at file offset {offset:#x}: {reason}")]
pub struct ElfError {
    /// The field or table at fault, in bytes from the start of the file.
    pub offset: u64,
    /// The reason.
    pub reason: ElfReason,
}

/// A fault of a header or of a header table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ElfReason {
    /// The file ends inside the file header.
    Short {
        /// Length of the file in bytes.
        len_bytes: u64,
        /// The size of the header in bytes.
        need_bytes: u64,
    },
    /// The first four bytes are not 0x7F "ELF".
    Magic([u8; 4]),
    /// `e_ident[EI_CLASS]` is neither 1 (ELF32) nor 2 (ELF64).
    Class(u8),
    /// `e_ident[EI_DATA]` is 2: x86 is little endian.
    BigEndian,
    /// `e_ident[EI_DATA]` is neither 1 nor 2.
    Encoding(u8),
    /// A header table does not lie in the file.
    Outside {
        /// Which table.
        table: TableKind,
        /// Where it begins.
        offset: u64,
        /// Its length in bytes.
        len_bytes: u64,
        /// The length of the file in bytes.
        file_bytes: u64,
    },
    /// The table's entries are smaller than the class's header.
    EntrySize {
        /// Which table.
        table: TableKind,
        /// The size the file gives.
        size: u16,
        /// The smallest possible size.
        need: u16,
    },
    /// The table has no such entry.
    Index {
        /// Which table.
        table: TableKind,
        /// The entry asked for.
        index: u16,
        /// The number of entries.
        count: u16,
    },
    /// The source failed.
    Unreadable(ReadError),
}

/// One of the two header tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "ELF has two header tables")]
pub enum TableKind {
    /// The program headers.
    Segments,
    /// The section headers.
    Sections,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segments => "program header",
            Self::Sections => "section header",
        })
    }
}

impl fmt::Display for ElfReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short {
                len_bytes,
                need_bytes,
            } => {
                write!(
                    f,
                    "the file has {len_bytes} bytes, but its header needs {need_bytes}"
                )
            }
            Self::Magic(magic) => write!(f, "not an ELF file: it begins with {magic:02x?}"),
            Self::Class(class) => write!(f, "class {class} is neither 1 (32-bit) nor 2 (64-bit)"),
            Self::BigEndian => f.write_str("the file is big-endian, but x86 is little-endian"),
            Self::Encoding(data) => write!(f, "byte order {data} is not 1 (little-endian)"),
            Self::Outside {
                table,
                offset,
                len_bytes,
                file_bytes,
            } => write!(
                f,
                "the {table} table ({len_bytes} bytes at {offset:#x}) is not inside the file of {file_bytes} bytes"
            ),
            Self::EntrySize { table, size, need } => {
                write!(
                    f,
                    "{table} entries of {size} bytes are too small: this class needs {need}"
                )
            }
            Self::Index {
                table,
                index,
                count,
            } => write!(
                f,
                "there is no {table} {index}: the table has {count} entries"
            ),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}
