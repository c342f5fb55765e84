//! `increase_reservation`, `decrease_reservation` and `populate_physmap`.

use core::ops::Range;

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_hypercall::group::{Extents, ExtentsDone};
use pvh_memory::FrameError;

use super::{BegunExtent, Change, MemoryCalls, place::Held};

/// How much of an extent is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    /// All of it.
    Whole,
    /// Some of it: the budget is spent.
    Some,
}

/// The calls that answer how many extents are done, and no error.
impl MemoryCalls<'_> {
    /// Adds pages that have no frame: only their count changes.
    pub(super) fn increase(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        let Some(size) = self.extent_size(extents) else {
            return REFUSED;
        };
        let room = self.room().checked_div(size).unwrap_or(0);
        let count = room.min(extents.count());
        self.ops.pages = self.ops.pages.saturating_add(count.saturating_mul(size));
        ExtentsDone {
            count,
            is_refused: count < extents.count(),
        }
    }

    pub(super) fn decrease(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.each(extents, Change::Remove)
    }

    pub(super) fn populate(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        // Xen does not let a domain populate its own memory on demand.
        if extents.flags & POPULATE_ON_DEMAND != 0 {
            return REFUSED;
        }
        self.each(extents, Change::Populate)
    }

    /// Does extents in turn until one fails or the budget is spent.
    fn each(&mut self, extents: &Extents<'_>, change: Change) -> ExtentsDone {
        let Some(size) = self.extent_size(extents) else {
            return REFUSED;
        };
        let mut count: u64 = 0;
        while count < extents.count() {
            let gfn = extents.frame(count).ok();
            let gfns = gfn.and_then(|gfn| Some(gfn..gfn.checked_add(size)?));
            let part = gfns.and_then(|gfns| self.change_extent(gfns, change));
            if part == Some(Part::Whole) {
                count = count.saturating_add(1);
            }
            if part != Some(Part::Whole) || self.go.budget.is_spent() {
                let is_refused = part.is_none();
                return ExtentsDone { count, is_refused };
            }
        }
        ExtentsDone {
            count,
            is_refused: false,
        }
    }

    /// Does an extent, or the next part of one that was begun. `None`: it fails.
    fn change_extent(&mut self, gfns: Range<u64>, change: Change) -> Option<Part> {
        // The guest may have changed its list meanwhile: then this is another extent.
        let begun = self.go.begun.take();
        let begun = begun.filter(|begun| begun.change == change && begun.gfns == gfns);
        let mut next = match begun {
            Some(begun) => begun.next,
            None => {
                self.check_extent(&gfns, change)?;
                gfns.start
            }
        };
        while next < gfns.end {
            let step = next..next.saturating_add(self.charge_step(next..gfns.end));
            next = match change {
                Change::Remove => self.drop_some(step)?,
                Change::Populate => self.populate_some(step)?,
            };
            if next < gfns.end && self.go.budget.is_spent() {
                *self.go.begun = Some(BegunExtent { change, gfns, next });
                return Some(Part::Some);
            }
        }
        Some(Part::Whole)
    }

    /// Refuses an extent that cannot be populated whole, before anything is done. Later steps can
    /// fail all the same: if another vCPU uses up the pages meanwhile.
    fn check_extent(&self, gfns: &Range<u64>, change: Change) -> Option<()> {
        if change == Change::Remove {
            return Some(());
        }
        let size = gfns.end.saturating_sub(gfns.start);
        if self.room() < size {
            return None;
        }
        if self.go.budget.is_limited() {
            self.memory.check_add(gfns.clone()).ok()?;
        }
        Some(())
    }

    /// How many pages an extent has; `None` where none of the three calls does anything: for
    /// another domain, for an order above 9, and for demands on host addresses or nodes that are
    /// not a guest's to make.
    fn extent_size(&self, extents: &Extents<'_>) -> Option<u64> {
        self.ops.check_own(extents.domain).ok()?;
        let address_bits = extents.flags & ADDRESS_BITS;
        let names_a_node = extents.flags & VIRTUAL_NODE == 0 && extents.flags & NODE != 0;
        let is_exact = names_a_node && extents.flags & EXACT_NODE != 0;
        if (1..=PAGE_BITS).contains(&address_bits) || is_exact || extents.order > MAX_ORDER {
            return None;
        }
        1_u64.checked_shl(extents.order)
    }

    /// How many more pages the domain may have.
    fn room(&self) -> u64 {
        self.ops.max_pages.saturating_sub(self.ops.pages)
    }

    /// Frees the pages of an extent; up to the first frame without one. Returns the first frame
    /// that is not done.
    fn drop_some(&mut self, gfns: Range<u64>) -> Option<u64> {
        if self.is_all_ram(&gfns) {
            let (end, len) = (gfns.end, gfns.end.saturating_sub(gfns.start));
            self.memory.remove_frames(gfns).ok()?;
            self.ops.pages = self.ops.pages.saturating_sub(len);
            return Some(end);
        }
        let end = match self.go.budget.is_limited() {
            true => gfns.end.min(gfns.start.saturating_add(SINGLE_FRAMES)),
            false => gfns.end,
        };
        for gfn in gfns.start..end {
            let held = self.held(gfn);
            self.take_back(gfn);
            self.memory.remove_frame(gfn).ok()?;
            if held == Held::Ram {
                self.ops.pages = self.ops.pages.saturating_sub(1);
            }
        }
        Some(end)
    }

    /// Puts fresh pages at frames. What was there is covered: Xen keeps it, and so it counts on.
    /// Returns the first frame that is not done.
    fn populate_some(&mut self, gfns: Range<u64>) -> Option<u64> {
        let (end, len) = (gfns.end, gfns.end.saturating_sub(gfns.start));
        if self.room() < len {
            return None;
        }
        match self.memory.add_frames(gfns.clone()) {
            Ok(()) => {}
            Err(FrameError::Present { .. }) => self.cover(gfns)?,
            Err(_) => return None,
        }
        self.ops.max_gfn = self.ops.max_gfn.max(end.saturating_sub(1));
        self.ops.pages = self.ops.pages.saturating_add(len);
        Some(end)
    }

    /// The same where some frames have a page: those are cleared, which the guest cannot tell from
    /// a fresh page and which takes no memory slot; the others get a page.
    fn cover(&mut self, gfns: Range<u64>) -> Option<()> {
        let mut start = gfns.start;
        while start < gfns.end {
            let is_there = self.held(start) != Held::Nothing;
            let ends = |gfn: &u64| (self.held(*gfn) != Held::Nothing) != is_there;
            let end = (start.saturating_add(1)..gfns.end).find(ends);
            let end = end.unwrap_or(gfns.end);
            if is_there {
                (start..end).for_each(|gfn| self.take_back(gfn));
                let len_bytes = end.saturating_sub(start).checked_mul(PAGE_SIZE)?;
                let at = Gpa(start.checked_mul(PAGE_SIZE)?);
                self.memory.zero(at, len_bytes).ok()?;
            } else {
                self.memory.add_frames(start..end).ok()?;
            }
            start = end;
        }
        Some(())
    }

    fn is_all_ram(&self, gfns: &Range<u64>) -> bool {
        let len = gfns.end.saturating_sub(gfns.start);
        let place = gfns.start.checked_mul(PAGE_SIZE);
        let Some((at, len_bytes)) = place.zip(len.checked_mul(PAGE_SIZE)) else {
            return false;
        };
        let shared_info = self.shared_info.place().map(|at| at.0 / PAGE_SIZE);
        let has_shared = shared_info.is_some_and(|gfn| gfns.contains(&gfn))
            || self.grants.places().iter().any(|gfn| gfns.contains(gfn));
        !has_shared && self.memory.is_ram(Gpa(at), len_bytes)
    }
}

/// Nothing is done.
const REFUSED: ExtentsDone = ExtentsDone {
    count: 0,
    is_refused: true,
};

/// How many frames of an extent are removed one by one in a step, where it is not all RAM.
const SINGLE_FRAMES: u64 = 32;

/// The largest extent that a domain without privileges may ask for: 2 MiB.
#[doc(alias = "CONFIG_DOMU_MAX_ORDER")]
const MAX_ORDER: u32 = 9;
/// Of the flags, how many bits a host address may have; a page needs more than 12.
const ADDRESS_BITS: u32 = 0xFF;
const PAGE_BITS: u32 = 12;
/// Of the flags, one more than a node.
const NODE: u32 = 0xFF00;
const POPULATE_ON_DEMAND: u32 = 1 << 16;
const EXACT_NODE: u32 = 1 << 17;
const VIRTUAL_NODE: u32 = 1 << 18;
