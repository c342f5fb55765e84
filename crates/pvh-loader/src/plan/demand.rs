//! What must be placed, as plain numbers.

use pvh_abi::GuestRange;

use crate::image::{PhysReloc, ProgramHeader};

/// The input of [`place`](super::place): what must be placed, and the memory for it.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The loadable segments, in file order.
    pub segments: &'a [Segment],
    /// Length of the file the segments' bytes come from.
    pub file_len_bytes: u64,
    /// The entry point the image asks for.
    pub entry: u32,
    /// Where the image may be moved to; `None` if it must stay where it was linked.
    pub relocation: Option<Relocation>,
    /// Lengths of the modules, in order.
    pub module_sizes: &'a [u64],
    /// Length of the start info with all it points to.
    pub start_info_bytes: u64,
    /// The RAM of the guest; ranges may touch and overlap.
    pub ram: &'a [GuestRange],
    /// Ranges that nothing may be placed in, in RAM or not.
    pub taken: &'a [GuestRange],
}

/// A loadable segment of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Where the image wants it: `p_paddr`.
    pub at: u64,
    /// Its length in memory; bytes that are not in the file are zero.
    pub mem_size: u64,
    /// Where its bytes begin in the file.
    pub file_offset: u64,
    /// How many bytes the file has for it.
    pub file_size: u64,
    /// Its alignment, used only if a relocatable image names no alignment.
    pub align: u64,
}

/// The conditions of an image that can be moved (`PHYS32_RELOC`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relocation {
    /// Alignment of the new place; `None` for the largest alignment of the segments.
    pub align: Option<u32>,
    /// The lowest address.
    pub min: u32,
    /// The highest address of the last byte.
    pub max: u32,
}

impl From<&ProgramHeader> for Segment {
    fn from(header: &ProgramHeader) -> Self {
        Self {
            at: header.paddr,
            mem_size: header.mem_size,
            file_offset: header.offset,
            file_size: header.file_size,
            align: header.align,
        }
    }
}

impl From<PhysReloc> for Relocation {
    fn from(note: PhysReloc) -> Self {
        let PhysReloc { align, min, max } = note;
        Self { align, min, max }
    }
}
