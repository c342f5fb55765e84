//! Decides where everything is placed, before anything is written.
//!
//! [`Image::plan`] sees an image's headers and a description of the boot, and never the guest's
//! memory. Its core, [`place`], is a pure function of plain numbers, so that it can be tested and
//! fuzzed without a file.

mod boot;
mod demand;
mod error;
mod kernel;
mod memory;
mod patch;
mod pieces;
mod placement;

pub use boot::{Boot, MemmapRule};
pub use demand::{Demand, Relocation, Segment};
pub use error::{Fix, Obstacle, PlanError};
pub use placement::{Patch, Placement, Write, WriteKind};
use pvh_abi::{Gpa, GuestRange};

use crate::{
    image::Image,
    layout::{Span, pages},
    module::ModuleSource,
};
use memory::Memory;

/// A planned boot: the image, the boot, and where everything is placed.
///
/// It borrows the image and the boot it was made from, so that
/// [`commit`](Self::commit) cannot be given others.
///
/// ```compile_fail,E0506
/// # use pvh_loader::{Boot, Image, Method};
/// # fn change(image: &Image, mut boot: Boot, memory: &pvh_memory::VecMemory) {
/// let plan = image.plan(&boot).unwrap();
/// boot.cmdline = b"quiet".to_vec(); // does not compile: the plan borrows the boot
/// plan.commit(Method::Copy, memory).unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct Plan<'a> {
    image: &'a Image,
    boot: &'a Boot,
    placement: Placement,
}

impl Image {
    /// Plans the boot of this image as `boot` describes it. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`PlanError`] says what does not fit, where, and what would help.
    pub fn plan<'a>(&'a self, boot: &'a Boot) -> Result<Plan<'a>, PlanError> {
        boot.check()?;
        let segments: Vec<Segment> = self.segments().iter().map(Segment::from).collect();
        let module_sizes: Vec<u64> = boot.modules.iter().map(ModuleSource::len_bytes).collect();
        let (ram, taken) = boot.memory();
        let mut placement = place(&Demand {
            segments: &segments,
            file_len_bytes: self.len_bytes(),
            entry: self.entry(),
            relocation: self.relocation().map(Relocation::from),
            module_sizes: &module_sizes,
            start_info_bytes: boot.start_info_bytes()?,
            ram: &ram,
            taken: &taken,
        })?;
        if let Some(patch) = &boot.patch {
            placement.patches = patch::patches(patch, self.segments(), &placement)?;
        }
        Ok(Plan {
            image: self,
            boot,
            placement,
        })
    }
}

impl<'a> Plan<'a> {
    /// Returns where everything is placed.
    #[must_use]
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Returns the image that is planned.
    #[must_use]
    pub const fn image(&self) -> &'a Image {
        self.image
    }

    /// Returns the boot that is planned.
    #[must_use]
    pub const fn boot(&self) -> &'a Boot {
        self.boot
    }
}

/// Finds a place for everything in `demand`.
///
/// The kernel is placed where it was linked. If that is not free and the kernel may be moved, it is
/// placed at the highest place that meets its conditions. Modules follow in order, page-aligned,
/// then the start info, page-aligned and below 1 GiB. If that is not possible, the start info is
/// placed first, and each module in the lowest free block. The time is about linear in the number
/// of pieces.
///
/// # Errors
///
/// [`PlanError`] says what does not fit, where, and what would help.
pub fn place(demand: &Demand<'_>) -> Result<Placement, PlanError> {
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
    Ok(Placement {
        entry: kernel.entry,
        start_info: Gpa(pieces.start_info.start),
        kernel: kernel.extent.range(),
        moved_by: kernel.moved_by,
        modules: pieces.modules,
        writes,
        patches: Vec::new(),
    })
}

/// Returns the writes of a module: its bytes, and zeros to the end of its last page.
fn module_writes(index: usize, module: GuestRange) -> impl Iterator<Item = Write> {
    let Span { start, end } = Span::of(module);
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
