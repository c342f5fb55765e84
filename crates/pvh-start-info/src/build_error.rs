//! Errors of the builder.

use core::fmt;

use pvh_abi::Gpa;

use crate::Generation;

/// A part of the block, or something that it describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The block as a whole.
    Block,
    /// The command line.
    CommandLine,
    /// The module table.
    ModuleTable,
    /// The module of this index.
    Module(usize),
    /// The command line of the module of this index.
    ModuleCommandLine(usize),
    /// The memory map.
    Memmap,
    /// The memory map range of this index.
    MemmapRange(usize),
    /// The RSDP.
    Rsdp,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("start info"),
            Self::CommandLine => f.write_str("command line"),
            Self::ModuleTable => f.write_str("module table"),
            Self::Module(index) => write!(f, "module {index}"),
            Self::ModuleCommandLine(index) => write!(f, "command line of module {index}"),
            Self::Memmap => f.write_str("memory map"),
            Self::MemmapRange(index) => write!(f, "memory map range {index}"),
            Self::Rsdp => f.write_str("RSDP"),
        }
    }
}

/// The reason why no start info was written; the buffer is unchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The generation has no field for it.
    #[error("{part}: a start info of generation {generation:?} has no field for it")]
    Unsayable {
        /// The part without a field.
        part: Part,
        /// The generation.
        generation: Generation,
    },
    /// The part is at address 0, which the ABI reads as "absent".
    #[error("{part}: address 0 means \"absent\"; use another address")]
    AtZero {
        /// The part.
        part: Part,
    },
    /// The part ends above 4 GiB, where a 32-bit field or ebx cannot point.
    #[error("{part}: {len_bytes} bytes at {at} do not end below 4 GiB")]
    AboveFourGib {
        /// The part.
        part: Part,
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// The part runs past the end of the address space.
    #[error("{part}: {len_bytes} bytes at {at} run past the end of the address space")]
    Overflow {
        /// The part.
        part: Part,
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// A NUL would end the command line early.
    #[error("{part}: it has a NUL at offset {offset}")]
    Nul {
        /// The command line.
        part: Part,
        /// The offset of the NUL in it.
        offset: usize,
    },
    /// A table has more entries than fit its 32-bit count.
    #[error("{part}: {entries} entries do not fit a 32-bit count")]
    TooMany {
        /// The table.
        part: Part,
        /// The number of entries.
        entries: usize,
    },
    /// With this part, the size of the block exceeds 64 bits.
    #[error("{part}: the start info grows past 2^64 bytes")]
    TooLarge {
        /// The part.
        part: Part,
    },
    /// The block must begin at a multiple of 8, and does not.
    #[error("start info address {at} is not a multiple of 8")]
    Misaligned {
        /// Its address.
        at: Gpa,
    },
    /// The buffer is shorter than the block.
    #[error("the start info needs {need_bytes} bytes, but the buffer has {len_bytes}")]
    BufferTooSmall {
        /// The size of the block in bytes.
        need_bytes: u64,
        /// The size of the buffer in bytes.
        len_bytes: usize,
    },
}
