//! Places the modules and the start info.

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};

use super::{
    demand::Demand,
    error::{Fix, PlanError},
    memory::Memory,
};
use crate::layout::{ADDRESSABLE, Fit, ISA_END, LOW_PAGES, START_INFO_END, Span, SpanSet, pages};

pub(super) struct Pieces {
    /// Each with its exact length.
    pub(super) modules: Vec<GuestRange>,
    /// Whole pages.
    pub(super) start_info: Span,
}

/// Places modules and start info around the kernel.
///
/// Tries Xen's order first, which older FreeBSD relies on: kernel, modules, start info. If a large
/// module would push the start info above 1 GiB, the start info is placed first: after the kernel,
/// else above 1 MiB, else anywhere.
pub(super) fn place(
    demand: &Demand<'_>,
    memory: &Memory,
    kernel: Span,
) -> Result<Pieces, PlanError> {
    let taken = LOW_PAGES.into_iter().chain([kernel]);
    let free = memory.free.without(&SpanSet::new(taken, ADDRESSABLE));
    let search = Search {
        demand,
        memory,
        kernel,
        free,
    };
    if let Some(pieces) = search.in_order() {
        return Ok(pieces);
    }
    let higher = [kernel.end, ISA_END].into_iter();
    let found = higher
        .map(|floor| search.start_info_first(floor))
        .find(Result::is_ok);
    found.unwrap_or_else(|| search.start_info_first(0))
}

struct Search<'a> {
    demand: &'a Demand<'a>,
    memory: &'a Memory,
    kernel: Span,
    free: SpanSet,
}

impl Search<'_> {
    fn in_order(&self) -> Option<Pieces> {
        let mut cursor = self.kernel.end;
        let mut modules = Vec::with_capacity(self.demand.module_sizes.len());
        for &size in self.demand.module_sizes {
            let span = lowest(&self.free, size, Span::new(cursor, ADDRESSABLE.end))?;
            modules.push(GuestRange::new(Gpa(span.start), size));
            cursor = span.end;
        }
        let within = Span::new(cursor, START_INFO_END);
        let start_info = lowest(&self.free, self.demand.start_info_bytes, within)?;
        Some(Pieces {
            modules,
            start_info,
        })
    }

    /// Places the start info at `floor` or above, then each module in the lowest free block after
    /// the kernel, else above 1 MiB, else anywhere.
    fn start_info_first(&self, floor: u64) -> Result<Pieces, PlanError> {
        let mut free = self.free.clone();
        let within = Span::new(floor, START_INFO_END);
        let start_info = lowest(&free, self.demand.start_info_bytes, within)
            .ok_or_else(|| self.no_start_info())?;
        free.remove(start_info);
        let mut modules = Vec::with_capacity(self.demand.module_sizes.len());
        for (index, &size) in self.demand.module_sizes.iter().enumerate() {
            let floors = [self.kernel.end, ISA_END, 0].into_iter();
            let mut rooms =
                floors.filter_map(|floor| lowest(&free, size, Span::new(floor, ADDRESSABLE.end)));
            let span = rooms
                .next()
                .ok_or_else(|| self.no_module(index, size, &free))?;
            free.remove(span);
            modules.push(GuestRange::new(Gpa(span.start), size));
        }
        Ok(Pieces {
            modules,
            start_info,
        })
    }

    fn no_start_info(&self) -> PlanError {
        let size_bytes = self.demand.start_info_bytes;
        let within = Span::new(0, START_INFO_END);
        let kernel_end = self.kernel.end;
        let needed = ram_needed(kernel_end, &[], size_bytes);
        PlanError::NoRoomForStartInfo {
            size_bytes,
            longest_bytes: self.free.longest(PAGE_SIZE, within),
            fix: match needed {
                Some(needed) if needed <= START_INFO_END => {
                    self.memory.more_ram(needed, Fix::SmallerStartInfo)
                }
                _ => Fix::SmallerStartInfo,
            },
        }
    }

    fn no_module(&self, index: usize, size_bytes: u64, free: &SpanSet) -> PlanError {
        let Demand {
            module_sizes,
            start_info_bytes,
            ..
        } = *self.demand;
        let needed = ram_needed(self.kernel.end, module_sizes, start_info_bytes);
        PlanError::NoRoomForModule {
            index,
            size_bytes,
            longest_bytes: free.longest(PAGE_SIZE, ADDRESSABLE),
            fix: match needed {
                Some(needed) => self.memory.more_ram(needed, Fix::SmallerModules),
                None => Fix::SmallerModules,
            },
        }
    }
}

/// Returns the lowest free whole pages of `within` that hold `len_bytes`.
fn lowest(free: &SpanSet, len_bytes: u64, within: Span) -> Option<Span> {
    let len_bytes = pages(len_bytes)?;
    let start = free.lowest(Fit {
        len_bytes,
        align_bytes: PAGE_SIZE,
        within,
    })?;
    Some(Span::new(start, start.checked_add(len_bytes)?))
}

/// Returns how much RAM, from address 0 up, holds a kernel that ends at `kernel_end`, then the
/// modules and the start info.
pub(super) fn ram_needed(
    kernel_end: u64,
    module_sizes: &[u64],
    start_info_bytes: u64,
) -> Option<u64> {
    let kernel_end = kernel_end
        .max(ISA_END)
        .checked_next_multiple_of(PAGE_SIZE)?;
    let mut pieces = module_sizes.iter().chain([&start_info_bytes]);
    pieces.try_fold(kernel_end, |end, &size| end.checked_add(pages(size)?))
}
