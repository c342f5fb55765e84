//! Errors of the reader.

use core::fmt;

use pvh_abi::Gpa;

/// One of the two tables of a start info structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TableKind {
    /// The module table.
    Modules,
    /// The memory map.
    Memmap,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modules => "module table",
            Self::Memmap => "memory map",
        })
    }
}

/// The reason why a start info structure, or something it points to, cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// The structure is at 0, which the ABI reads as "absent".
    #[error("the address of the start info is 0, which means \"absent\"")]
    AtZero,
    /// The structure runs past the end of the address space.
    #[error("{len_bytes} bytes at {at} run past the end of the address space")]
    PastEnd {
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Memory could not be read.
    #[error("cannot read {len_bytes} bytes at {at}")]
    Fetch {
        /// The address.
        at: Gpa,
        /// The length in bytes.
        len_bytes: u64,
        /// The cause.
        #[source]
        source: E,
    },
    /// The first field is not the magic number.
    #[error("no start info at {at}: the magic is {found:#010x}")]
    Magic {
        /// The address.
        at: Gpa,
        /// The number found there.
        found: u32,
    },
    /// A table has entries and no address.
    #[error("{table}: {entries} entries, but no address")]
    TableAbsent {
        /// The table.
        table: TableKind,
        /// The number of entries that the structure gives.
        entries: u32,
    },
    /// A table has more entries than the caller allows.
    #[error("{table}: it has {entries} entries; the limit is {limit}")]
    TooManyEntries {
        /// The table.
        table: TableKind,
        /// The number of entries that the structure gives.
        entries: u32,
        /// The most entries that the caller allows.
        limit: u32,
    },
    /// A table runs past the end of the address space.
    #[error("{table}: {entries} entries at {paddr} run past the end of the address space")]
    TableOverflow {
        /// The table.
        table: TableKind,
        /// Where it begins.
        paddr: Gpa,
        /// The number of entries that the structure gives.
        entries: u32,
    },
    /// A module is at 0, which the ABI reads as "absent".
    #[error("module {index}: address 0 means \"absent\"")]
    ModuleAtZero {
        /// The index of the module.
        index: u32,
    },
    /// A module or memory map range runs past the end of the address space.
    #[error(
        "{table}, entry {index}: {len_bytes} bytes at {at} run past the end of the address space"
    )]
    EntryOverflow {
        /// The table of the entry.
        table: TableKind,
        /// The index of the entry.
        index: u32,
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// A command line has no NUL within the limit.
    #[error("command line at {at} is longer than {limit_bytes} bytes")]
    LineTooLong {
        /// Where it begins.
        at: Gpa,
        /// The most bytes that the caller allows, without the NUL.
        limit_bytes: usize,
    },
}
