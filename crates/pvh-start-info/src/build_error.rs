use core::fmt;

use pvh_abi::Gpa;

use crate::Generation;

/// A part of the block that the builder writes, or of what it describes.
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

/// Why no start info was written; the buffer is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The generation has no field for it.
    #[error("{part}: a start info of generation {generation:?} cannot say it")]
    Unsayable {
        /// What cannot be said.
        part: Part,
        /// In which generation.
        generation: Generation,
    },
    /// It lies at 0, which the ABI reads as "absent".
    #[error("{part}: address 0 means that there is none")]
    AtZero {
        /// What lies there.
        part: Part,
    },
    /// It ends above 4 GiB, where a 32-bit field or ebx cannot point.
    #[error("{part}: {len_bytes} bytes at {at} do not end below 4 GiB")]
    AboveFourGib {
        /// What lies there.
        part: Part,
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// It runs past the end of the address space.
    #[error("{part}: {len_bytes} bytes at {at} run past the end of the address space")]
    Overflow {
        /// What lies there.
        part: Part,
        /// Where it begins.
        at: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// A NUL would end the command line early.
    #[error("{part}: there is a NUL at offset {offset}")]
    Nul {
        /// Which command line.
        part: Part,
        /// Where in it.
        offset: usize,
    },
    /// A table has more entries than its 32-bit count can say.
    #[error("{part}: {entries} entries do not fit a 32-bit count")]
    TooMany {
        /// Which table.
        part: Part,
        /// How many entries it has.
        entries: usize,
    },
    /// With this part the size of the block has more than 64 bits.
    #[error("{part}: the start info grows past 2^64 bytes")]
    TooLarge {
        /// The part that is too much.
        part: Part,
    },
    /// The block is not to begin at a multiple of 8.
    #[error("start info address {at} is not a multiple of 8")]
    Misaligned {
        /// Its address.
        at: Gpa,
    },
    /// The buffer is shorter than the block.
    #[error("start info takes {need_bytes} bytes, the buffer has {len_bytes}")]
    BufferTooSmall {
        /// The size of the block in bytes.
        need_bytes: u64,
        /// The size of the buffer in bytes.
        len_bytes: usize,
    },
}
