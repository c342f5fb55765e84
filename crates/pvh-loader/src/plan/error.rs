//! Why a boot cannot be planned, and what would help.

use core::fmt;

use pvh_abi::{Gpa, GuestRange};
use pvh_start_info::BuildError;

use crate::stubs::CallInstruction;

/// Why a boot cannot be planned. Nothing has been written: a plan does not see guest memory.
///
/// Segments and modules are counted from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The memory map has no RAM below 4 GiB.
    #[error("the memory map has no RAM below 4 GiB")]
    NoRam,
    /// An entry of the memory map, or a reserved range, runs past the end of the address space.
    #[error("the {list}: {len_bytes} bytes at {start} run past the end of the address space")]
    RangeWraps {
        /// "memory map" or "reserved ranges".
        list: &'static str,
        /// Where it begins.
        start: Gpa,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// The memory map is too long for Linux.
    #[error("the memory map has {count} entries, and Linux accepts {limit} at most")]
    MemmapTooLong {
        /// How many there are.
        count: usize,
        /// The most that Linux accepts.
        limit: usize,
    },
    /// The image has nothing to load.
    #[error("the image has no loadable segment")]
    NoSegments,
    /// A segment has more bytes in the file than in memory.
    #[error("segment {index} has {file_size} bytes in the file, but only {mem_size} in memory")]
    SegmentFileSize {
        /// Which segment.
        index: usize,
        /// Its length in the file.
        file_size: u64,
        /// Its length in memory.
        mem_size: u64,
    },
    /// A segment's bytes are not all in the file.
    #[error(
        "segment {index}: {file_size} bytes at file offset {file_offset:#x} run past the end of \
         the file, {file_len_bytes:#x}"
    )]
    SegmentPastFile {
        /// Which segment.
        index: usize,
        /// Where its bytes begin in the file.
        file_offset: u64,
        /// How many there are.
        file_size: u64,
        /// Length of the file.
        file_len_bytes: u64,
    },
    /// A segment does not end below 4 GiB.
    #[error("segment {index} ({mem_size} bytes at {at}) does not end below 4 GiB")]
    SegmentTooHigh {
        /// Which segment.
        index: usize,
        /// Where it begins.
        at: Gpa,
        /// Its length in memory.
        mem_size: u64,
    },
    /// Two segments overlap in bytes of the file. An overlap of zeros is accepted.
    #[error("segments {first} and {second} overlap at {at}")]
    SegmentsOverlap {
        /// The one that begins lower.
        first: usize,
        /// The other.
        second: usize,
        /// The first byte of both.
        at: Gpa,
    },
    /// A segment's place is not free RAM, and the image cannot be moved.
    #[error("segment {index} ({range}) cannot be placed: {obstacle} at {at}")]
    SegmentBlocked {
        /// Which segment.
        index: usize,
        /// Its range, as linked.
        range: GuestRange,
        /// The first byte that is not free.
        at: Gpa,
        /// Why it is not free.
        obstacle: Obstacle,
        /// What would help.
        fix: Fix,
    },
    /// The image must be moved and asks for an alignment that is not a power of two.
    #[error("the image must be moved, but its alignment {align:#x} is not a power of two")]
    RelocationAlign {
        /// The alignment it asks for.
        align: u64,
    },
    /// The image must be moved, but no free place meets its conditions.
    #[error(
        "the image ({len_bytes} bytes) must be moved, but from {min:#x} to {max:#x} there is no free RAM \
         for it at a multiple of {align:#x}"
    )]
    RelocationNoRoom {
        /// Its length in memory, from first to last byte.
        len_bytes: u64,
        /// The alignment it asks for.
        align: u64,
        /// The lowest address it may have.
        min: u64,
        /// The highest address its last byte may have.
        max: u64,
        /// What would help.
        fix: Fix,
    },
    /// The entry point is not in a segment.
    #[error("the entry point {entry:#x} is in no segment of the image ({image})")]
    EntryOutside {
        /// The entry point.
        entry: u32,
        /// From the first segment to the last.
        image: GuestRange,
    },
    /// A module does not fit into free RAM below 4 GiB.
    #[error(
        "module {index} needs {} contiguous below 4 GiB; the largest free block is {}",
        Needs(*size_bytes),
        Has(*longest_bytes)
    )]
    NoRoomForModule {
        /// Which module.
        index: usize,
        /// Its length.
        size_bytes: u64,
        /// Length of the largest free block.
        longest_bytes: u64,
        /// What would help.
        fix: Fix,
    },
    /// The start info does not fit into free RAM below 1 GiB.
    #[error(
        "the start info needs {} contiguous below 1 GiB; the largest free block is {}",
        Needs(*size_bytes),
        Has(*longest_bytes)
    )]
    NoRoomForStartInfo {
        /// Its length with all it points to.
        size_bytes: u64,
        /// Length of the largest free block.
        longest_bytes: u64,
        /// What would help.
        fix: Fix,
    },
    /// The start info cannot be built.
    #[error("the start info cannot be built")]
    StartInfo(#[source] BuildError),
    /// A hypercall stub is not in the code of this image: it was found in another.
    #[error("the {} at {at}, to be patched, is not in the code of this image", call.name())]
    StubOutside {
        /// Its instruction.
        call: CallInstruction,
        /// Where it would be in an image that is not moved.
        at: Gpa,
    },
    /// The two hypercall stubs share a byte.
    #[error("the hypercall stubs to be patched overlap at {at}")]
    StubsOverlap {
        /// Where the second is.
        at: Gpa,
    },
}

/// Why a segment's place is not free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is not RAM.
    NotRam,
    /// It is reserved for something else.
    Reserved,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRam => "no RAM",
            Self::Reserved => "a reserved range",
        })
    }
}

/// What would make a plan possible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fix {
    /// Give the guest this much RAM, contiguous from address 0 up.
    MoreRam {
        /// How much, at least.
        ram_bytes: u64,
    },
    /// Make the modules smaller: no amount of RAM below 4 GiB holds them.
    SmallerModules,
    /// Make the command lines, the list of modules or the memory map shorter.
    SmallerStartInfo,
    /// Merge entries of the memory map, or allow a long map for a guest that accepts it.
    ShorterMemmap,
    /// Move the reserved ranges away from the image.
    MoveReserved,
    /// Link the image at another address, or make it relocatable (a `PHYS32_RELOC` note).
    Relink,
    /// Link the image with physical addresses below 4 GiB.
    PhysicalAddresses,
    /// Build the image again: its program headers or its notes are wrong or missing.
    Rebuild,
    /// Correct the memory map given to the planner.
    CorrectMemmap,
    /// Find the stubs in the image that is planned.
    FindStubs,
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::MoreRam { ram_bytes } => {
                return write!(
                    f,
                    "give the guest {} MiB of RAM or more",
                    ram_bytes.div_ceil(MIB)
                );
            }
            Self::SmallerModules => "use smaller modules: they must fit below 4 GiB",
            Self::SmallerStartInfo => "use shorter command lines or fewer modules",
            Self::ShorterMemmap => "merge entries of the memory map",
            Self::MoveReserved => "move the reserved ranges away from the image",
            Self::Relink => "link the image at another address, or give it a PHYS32_RELOC note",
            Self::PhysicalAddresses => {
                "link the image with physical addresses below 4 GiB: AT() in the linker script sets p_paddr"
            }
            Self::Rebuild => "build the image again: its headers or notes are wrong",
            Self::CorrectMemmap => "correct the memory map",
            Self::FindStubs => "find the hypercall stubs in this image",
        })
    }
}

/// A length that is needed: from 1 MiB up in MiB, rounded up.
struct Needs(u64);

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        if bytes < MIB {
            return write!(f, "{bytes} bytes");
        }
        write!(f, "{} MiB", bytes.div_ceil(MIB))
    }
}

/// A length that is there: from 1 MiB up in MiB, rounded down.
struct Has(u64);

impl fmt::Display for Has {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        if bytes < MIB {
            return write!(f, "{bytes} bytes");
        }
        write!(f, "{} MiB", bytes / MIB)
    }
}

const MIB: u64 = 1 << 20;

impl PlanError {
    /// Returns what would make the plan possible.
    #[must_use]
    pub const fn fix(&self) -> Option<Fix> {
        Some(match *self {
            Self::NoRam | Self::RangeWraps { .. } => Fix::CorrectMemmap,
            Self::MemmapTooLong { .. } => Fix::ShorterMemmap,
            Self::NoSegments
            | Self::SegmentFileSize { .. }
            | Self::SegmentPastFile { .. }
            | Self::SegmentsOverlap { .. }
            | Self::RelocationAlign { .. }
            | Self::EntryOutside { .. } => Fix::Rebuild,
            Self::SegmentTooHigh { .. } => Fix::PhysicalAddresses,
            Self::SegmentBlocked { fix, .. }
            | Self::RelocationNoRoom { fix, .. }
            | Self::NoRoomForModule { fix, .. }
            | Self::NoRoomForStartInfo { fix, .. } => fix,
            Self::StubOutside { .. } | Self::StubsOverlap { .. } => Fix::FindStubs,
            Self::StartInfo(_) => return None,
        })
    }
}
