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

/// Why a start info structure, or what it points to, cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// The structure is at 0, which the ABI reads as "absent".
    #[error("start info address 0 means that there is none")]
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
        /// Where.
        at: Gpa,
        /// How many bytes.
        len_bytes: u64,
        /// The cause.
        #[source]
        source: E,
    },
    /// The first field is not the magic number.
    #[error("no start info at {at}: the magic is {found:#010x}")]
    Magic {
        /// Where.
        at: Gpa,
        /// What is there.
        found: u32,
    },
    /// A table has entries and no address.
    #[error("{table}: {entries} entries, but no address")]
    TableAbsent {
        /// Which table.
        table: TableKind,
        /// How many entries it is said to have.
        entries: u32,
    },
    /// A table has more entries than the caller takes.
    #[error("{table}: {entries} entries, more than {limit}")]
    TooManyEntries {
        /// Which table.
        table: TableKind,
        /// How many entries it is said to have.
        entries: u32,
        /// How many the caller takes.
        limit: u32,
    },
    /// A table runs past the end of the address space.
    #[error("{table}: {entries} entries at {paddr} run past the end of the address space")]
    TableOverflow {
        /// Which table.
        table: TableKind,
        /// Where it begins.
        paddr: Gpa,
        /// How many entries it is said to have.
        entries: u32,
    },
    /// A module is at 0, which the ABI reads as "absent".
    #[error("module {index}: address 0 means that there is none")]
    ModuleAtZero {
        /// Which module.
        index: u32,
    },
    /// A module or memory map range runs past the end of the address space.
    #[error(
        "{table}, entry {index}: {len_bytes} bytes at {at} run past the end of the address space"
    )]
    EntryOverflow {
        /// Which table it is in.
        table: TableKind,
        /// Which entry.
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
        /// The most bytes the caller takes, the NUL not counted.
        limit_bytes: usize,
    },
}
