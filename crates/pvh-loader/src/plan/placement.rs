//! Where everything goes, as plain data.

use core::fmt;

use pvh_abi::Gpa;

use crate::{layout::GuestRange, stubs::CallInstruction};

/// Where everything goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// The address the guest starts at.
    pub entry: u32,
    /// The address of the start info, for `ebx`.
    pub start_info: Gpa,
    /// From the kernel's first byte to its last, zeroed ones and gaps included.
    pub kernel: GuestRange,
    /// How far the kernel was moved from where it was linked; 0 nearly always.
    pub moved_by: i64,
    /// The modules, each with its exact length.
    pub modules: Vec<GuestRange>,
    /// Everything that will be written, the start info last.
    pub writes: Vec<Write>,
    /// What is changed in the kernel's code once it has been written; mostly nothing.
    pub patches: Vec<Patch>,
}

/// One range that will be written. No two overlap, and none is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Write {
    /// What goes there.
    pub kind: WriteKind,
    /// Where.
    pub range: GuestRange,
}

/// What a [`Write`] puts into its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WriteKind {
    /// Bytes of the image, from `file_offset` on.
    Segment {
        /// Which of the image's loadable segments.
        index: usize,
        /// Where the bytes begin in the image's file.
        file_offset: u64,
    },
    /// Zeros after a segment's bytes.
    Bss {
        /// Which of the image's loadable segments.
        index: usize,
    },
    /// A whole module.
    Module {
        /// Which of the modules.
        index: usize,
    },
    /// Zeros from the end of a module to the end of its last page.
    ModuleTail {
        /// Which of the modules.
        index: usize,
    },
    /// The start info with all it points to, and zeros to the end of its last page.
    StartInfo,
}

impl fmt::Display for WriteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { index, .. } => write!(f, "segment {index}"),
            Self::Bss { index } => write!(f, "zeros of segment {index}"),
            Self::Module { index } => write!(f, "module {index}"),
            Self::ModuleTail { index } => write!(f, "zeros after module {index}"),
            Self::StartInfo => f.write_str("start info"),
        }
    }
}

/// One instruction that is changed after its segment has been written: three bytes of code become three others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patch {
    /// Where the instruction is, as planned.
    pub at: Gpa,
    /// The instruction that is there.
    pub call: CallInstruction,
    /// Where the image's file has it.
    pub file_offset: u64,
    /// Which of the image's loadable segments it is in.
    pub segment: usize,
    /// The port that the guest writes `eax` to instead.
    pub port: u8,
}

impl Patch {
    /// Returns the range that changes: three bytes.
    #[must_use]
    pub const fn range(&self) -> GuestRange {
        GuestRange::new(self.at, self.call.bytes().len() as u64)
    }

    /// Returns the bytes it becomes: `out %eax, $port`, and a NOP for the third byte.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 3] {
        [0xE7, self.port, 0x90]
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.call.name(), self.at)
    }
}
