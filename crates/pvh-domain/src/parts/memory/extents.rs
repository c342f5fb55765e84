//! `increase_reservation`, `decrease_reservation` and `populate_physmap`.

use core::ops::Range;

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_hypercall::group::Extents;
use pvh_memory::FrameError;

use super::{MemoryCalls, place::Held};

/// The calls that answer how many extents are done, and no error.
impl MemoryCalls<'_> {
    /// Adds pages that have no frame: only their count changes.
    pub(super) fn increase(&mut self, extents: &Extents<'_>) -> u64 {
        let Some(size) = self.extent_size(extents) else {
            return 0;
        };
        let room = self.room().checked_div(size).unwrap_or(0);
        let done = room.min(extents.count());
        self.ops.pages = self.ops.pages.saturating_add(done.saturating_mul(size));
        done
    }

    pub(super) fn decrease(&mut self, extents: &Extents<'_>) -> u64 {
        let Some(size) = self.extent_size(extents) else {
            return 0;
        };
        let drop_one = |index| {
            let gfn = extents.frame(index).ok()?;
            self.drop_extent(gfn..gfn.checked_add(size)?)
        };
        count(extents, drop_one)
    }

    pub(super) fn populate(&mut self, extents: &Extents<'_>) -> u64 {
        let Some(size) = self.extent_size(extents) else {
            return 0;
        };
        // Xen does not let a domain populate its own memory on demand.
        if extents.flags & POPULATE_ON_DEMAND != 0 {
            return 0;
        }
        let populate_one = |index| {
            let gfn = extents.frame(index).ok()?;
            if self.room() < size {
                return None;
            }
            self.populate_extent(gfn..gfn.checked_add(size)?)?;
            self.ops.pages = self.ops.pages.saturating_add(size);
            Some(())
        };
        count(extents, populate_one)
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

    /// Frees the pages of an extent; up to the first frame without one.
    fn drop_extent(&mut self, gfns: Range<u64>) -> Option<()> {
        if self.is_all_ram(&gfns) {
            let len = gfns.end.saturating_sub(gfns.start);
            self.memory.remove_frames(gfns).ok()?;
            self.ops.pages = self.ops.pages.saturating_sub(len);
            return Some(());
        }
        for gfn in gfns {
            let held = self.held(gfn);
            self.take_back(gfn);
            self.memory.remove_frame(gfn).ok()?;
            if held == Held::Ram {
                self.ops.pages = self.ops.pages.saturating_sub(1);
            }
        }
        Some(())
    }

    /// Puts fresh pages at the frames of an extent. What was there is covered: Xen keeps it, and so
    /// it counts on.
    fn populate_extent(&mut self, gfns: Range<u64>) -> Option<()> {
        let last = gfns.end.checked_sub(1)?;
        match self.memory.add_frames(gfns.clone()) {
            Ok(()) => {}
            Err(FrameError::Present { .. }) => self.cover(gfns)?,
            Err(_) => return None,
        }
        self.ops.max_gfn = self.ops.max_gfn.max(last);
        Some(())
    }

    /// The same where some frames have a page. Those have a fresh one afterwards in any case.
    fn cover(&mut self, gfns: Range<u64>) -> Option<()> {
        let held = |gfn: &u64| self.held(*gfn) != Held::Nothing;
        let present: Vec<u64> = gfns.clone().filter(held).collect();
        for &gfn in &present {
            self.take_back(gfn);
            self.memory.remove_frame(gfn).ok()?;
        }
        if self.memory.add_frames(gfns).is_ok() {
            return Some(());
        }
        for gfn in present {
            self.memory.add_frame(gfn).ok()?;
        }
        None
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

/// Does extents in turn until one fails; answers how many are done.
fn count(extents: &Extents<'_>, mut one: impl FnMut(u64) -> Option<()>) -> u64 {
    let mut done = 0;
    while done < extents.count() && one(done).is_some() {
        done = done.saturating_add(1);
    }
    done
}

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
