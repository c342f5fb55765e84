//! Decides where everything goes, before anything is written.
//!
//! [`plan`] is a pure function: it sees an image's headers and a description of the boot, and never the
//! guest's memory. Its core, [`place`], works on plain numbers, so that it can be tested and fuzzed
//! without a file.

mod boot;
mod demand;
mod error;
mod kernel;
mod load_plan;
mod memory;
mod patch;
mod pieces;

pub use boot::{Boot, MemmapRule};
pub use demand::{Demand, Relocation, Segment};
pub use error::{Fix, Obstacle, PlanError};
pub use load_plan::{LoadPlan, Patch, Write, WriteKind};
pub(crate) use patch::is_in;
use pvh_abi::Gpa;

use crate::{
    Image,
    layout::{GuestRange, Span, pages},
    module::ModuleSource,
};
use memory::Memory;

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
