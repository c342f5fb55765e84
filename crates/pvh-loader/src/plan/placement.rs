//! Where everything is placed, as plain data.

use core::fmt;

use pvh_abi::{Gpa, GuestRange};

use crate::stubs::CallInstruction;

/// Where everything is placed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// The address the guest starts at.
    pub entry: u32,
    /// The address of the start info, for `ebx`.
    pub start_info: Gpa,
    /// The kernel from its first byte to its last, zeros and gaps included.
    pub kernel: GuestRange,
    /// How far the kernel is moved from where it was linked; 0 for most.
    pub moved_by: i64,
    /// The modules, each with its exact length.
    pub modules: Vec<GuestRange>,
    /// Everything that will be written, the start info last.
    pub writes: Vec<Write>,
    /// Changes to the kernel's code after it has been written; none for most boots.
    pub patches: Vec<Patch>,
}

/// One range that will be written. Writes do not overlap, and none is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Write {
    /// The kind of bytes.
    pub kind: WriteKind,
    /// Its range.
    pub range: GuestRange,
}

/// The bytes of a [`Write`].
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

/// An instruction of 3 bytes that is replaced after its segment has been written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patch {
    /// Where the instruction will be in guest memory.
    pub at: Gpa,
    /// The instruction that is replaced.
    pub call: CallInstruction,
    /// Where the instruction is in the image's file.
    pub file_offset: u64,
    /// The index of its loadable segment.
    pub segment: usize,
    /// The I/O port that the guest then writes `eax` to.
    pub port: u8,
}

impl Patch {
    /// Returns the 3 bytes that change.
    #[must_use]
    pub const fn range(&self) -> GuestRange {
        GuestRange::new(self.at, self.call.bytes().len() as u64)
    }

    /// Returns the new bytes: `out %eax, $port`, then a NOP.
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
