//! Decides where everything goes, before anything is written.
//!
//! [`plan`] is a pure function: it sees an image's headers and a description of the boot, and never the
//! guest's memory. Its core, [`place`], works on plain numbers, so that it can be tested and fuzzed
//! without a file.

mod boot;
mod error;
mod kernel;
mod patch;
mod pieces;

use core::fmt;

pub(crate) use boot::ModuleData;
pub use boot::{Boot, MemmapRule, ModuleError, ModuleSource};
pub use error::{Fix, Obstacle, PlanError};
pub use patch::Patch;
use pvh_abi::{Gpa, address::PAGE_SIZE};

use crate::{
    Image,
    image::{PhysReloc, ProgramHeader},
    layout::{ADDRESSABLE, GuestRange, Span, SpanSet},
};

/// What [`place`] finds a place for.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The loadable segments, in file order.
    pub segments: &'a [Segment],
    /// Length of the file the segments' bytes come from.
    pub file_len_bytes: u64,
    /// The entry point the image asks for.
    pub entry: u32,
    /// What the image says about being moved; `None` when it must stay.
    pub relocation: Option<Relocation>,
    /// Lengths of the modules, in order.
    pub module_sizes: &'a [u64],
    /// Length of the start info with all it points to.
    pub start_info_bytes: u64,
    /// The RAM of the guest; ranges may touch and overlap.
    pub ram: &'a [GuestRange],
    /// What nothing may be put into, in RAM or not.
    pub taken: &'a [GuestRange],
}

/// A loadable segment of an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Where the image wants it: `p_paddr`.
    pub at: u64,
    /// Its length in memory; what the file does not fill is zero.
    pub mem_size: u64,
    /// Where its bytes begin in the file.
    pub file_offset: u64,
    /// How many bytes the file has for it.
    pub file_size: u64,
    /// The alignment the image names, only used when a relocatable image names none of its own.
    pub align: u64,
}

/// The conditions of an image that can be moved (`PHYS32_RELOC`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relocation {
    /// Alignment of the new place; `None` for the largest of the segments'.
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

/// Where everything goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadPlan {
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

/// Plans the boot of `image` as `boot` describes it.
///
/// # Errors
///
/// [`PlanError`] says what does not fit, where, and what would help.
pub fn plan(image: &Image, boot: &Boot) -> Result<LoadPlan, PlanError> {
    boot.check()?;
    let segments: Vec<Segment> = image.segments().iter().map(Segment::from).collect();
    let module_sizes: Vec<u64> = boot.modules.iter().map(ModuleSource::len_bytes).collect();
    let (ram, taken) = boot.memory();
    let mut plan = place(&Demand {
        segments: &segments,
        file_len_bytes: image.len_bytes(),
        entry: image.entry(),
        relocation: image.relocation().map(Relocation::from),
        module_sizes: &module_sizes,
        start_info_bytes: boot.start_info_bytes()?,
        ram: &ram,
        taken: &taken,
    })?;
    if let Some(patch) = &boot.patch {
        plan.patches = patch::patches(patch, image.segments(), &plan)?;
    }
    Ok(plan)
}

/// Finds a place for everything in `demand`, or says why there is none.
///
/// The kernel goes where it asks to, or, when that is taken and it may be moved, to the highest place
/// that meets its conditions. Modules follow in order, page-aligned, then the start info, page-aligned
/// and below 1 GiB; where that does not work, the start info goes first and each module to the
/// lowest room left. The time taken grows with the number of pieces and little more.
///
/// # Errors
///
/// [`PlanError`] says what does not fit, where, and what would help.
pub fn place(demand: &Demand<'_>) -> Result<LoadPlan, PlanError> {
    let memory = Memory::new(demand);
    if memory.ram.end().is_none() {
        return Err(PlanError::NoRam);
    }
    let kernel = kernel::place(demand, &memory)?;
    let pieces = pieces::place(demand, &memory, kernel.extent)?;
    let mut writes = kernel.writes;
    for (index, module) in pieces.modules.iter().enumerate() {
        writes.extend(module_writes(index, *module));
    }
    let kind = WriteKind::StartInfo;
    writes.push(Write {
        kind,
        range: pieces.start_info.range(),
    });
    Ok(LoadPlan {
        entry: kernel.entry,
        start_info: Gpa(pieces.start_info.start),
        kernel: kernel.extent.range(),
        moved_by: kernel.moved_by,
        modules: pieces.modules,
        writes,
        patches: Vec::new(),
    })
}

/// The memory below 4 GiB, as sets.
struct Memory {
    ram: SpanSet,
    /// RAM that nothing holds yet.
    free: SpanSet,
}

impl Memory {
    fn new(demand: &Demand<'_>) -> Self {
        let set = |ranges: &[GuestRange]| {
            SpanSet::new(ranges.iter().map(|range| range.span()), ADDRESSABLE)
        };
        let ram = set(demand.ram);
        let free = ram.without(&set(demand.taken));
        Self { ram, free }
    }

    /// More RAM, if there is less than `needed` and so much can be had below 4 GiB, or else the other
    /// way out.
    fn more_ram(&self, needed: u64, otherwise: Fix) -> Fix {
        if needed <= HIGHEST_RAM_END && self.ram.end().is_none_or(|end| end < needed) {
            Fix::MoreRam { ram_bytes: needed }
        } else {
            otherwise
        }
    }
}

/// A module and the zeros that fill its last page.
fn module_writes(index: usize, module: GuestRange) -> impl Iterator<Item = Write> {
    let Span { start, end } = module.span();
    let page_end = pages(module.len_bytes).and_then(|len| start.checked_add(len));
    let tail = Span::new(end, page_end.unwrap_or(end));
    let whole = Write {
        kind: WriteKind::Module { index },
        range: module,
    };
    let tail = Write {
        kind: WriteKind::ModuleTail { index },
        range: tail.range(),
    };
    [whole, tail]
        .into_iter()
        .filter(|write| write.range.len_bytes > 0)
}

/// The length of whole pages that hold `len_bytes`, at least one; `None` past 2^64 - 1.
pub(crate) fn pages(len_bytes: u64) -> Option<u64> {
    len_bytes.max(1).checked_next_multiple_of(PAGE_SIZE)
}

/// Where RAM below 4 GiB ends at most: the hole for ACPI, the local APIC and the special pages follows.
const HIGHEST_RAM_END: u64 = 0xFC00_0000;
