//! `memory_op`: what a guest asks about its memory, and how it changes its layout.
//!
//! Pages are counted as Xen counts them: RAM counts wherever it is, the pages that Xen shares with
//! the guest (`shared_info` and the grant table's) do not. A shared page that is put where RAM is
//! frees that page, one that is moved leaves a hole. A page taken away by `remove_from_physmap`, or
//! covered by `populate_physmap`, stays the domain's and counts on.
//!
//! A page that a shared area of the guest's lies in (a `vcpu_info`, a runstate area, a queue of the
//! FIFO ABI, a ring) can be taken away too: what is posted there is lost then, where Xen would keep
//! the page and post where no one sees it.

mod extents;
mod place;

use core::ops::Range;

use pvh_abi::{
    DomId, Errno,
    memory::{E820Entry, MapSpace},
};
use pvh_hypercall::{
    Budget, XenVersion,
    group::{Extents, ExtentsDone, MAX_MEMORY_MAP, MapRequest, Memory, MemoryMapEntries},
};
use pvh_memory::{FrameError, Frames};

use crate::parts::{grant::GrantTable, shared_info::SharedInfo, target::Target};

/// The memory that a domain begins with.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct MemoryConfig {
    /// How many pages it has: RAM, and pages beside it that the embedder gave it.
    pub pages: u64,
    /// How many it may have. Xen's toolstack allows 1 MiB more than the guest's memory.
    pub max_pages: u64,
    /// Its highest frame that has a page.
    pub max_gfn: u64,
    /// The number after the host's highest page, for `maximum_ram_page`.
    pub host_pages: u64,
    /// Its memory map; entries past the 1024th are left out.
    pub memory_map: Vec<E820Entry>,
}

/// What guest memory itself does not know about a domain's memory: counts, limits and the memory
/// map.
#[derive(Clone, Debug)]
pub struct MemoryOps {
    domain: DomId,
    pages: u64,
    max_pages: u64,
    max_gfn: u64,
    host_pages: u64,
    memory_map: Vec<E820Entry>,
    xen: XenVersion,
}

impl MemoryOps {
    /// Makes the memory of a new domain.
    #[must_use]
    pub fn new(domain: DomId, config: MemoryConfig) -> Self {
        let mut memory_map = config.memory_map;
        memory_map.truncate(MAX_MEMORY_MAP as usize);
        Self {
            domain,
            pages: config.pages,
            max_pages: config.max_pages,
            max_gfn: config.max_gfn,
            host_pages: config.host_pages,
            memory_map,
            xen: XenVersion::V4_17,
        }
    }

    /// Chooses the Xen whose answers the guest gets; 4.17 if not called.
    #[must_use]
    pub fn of_version(self, xen: XenVersion) -> Self {
        Self { xen, ..self }
    }

    /// Returns how many pages the domain has.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Counts a page that the domain was given without a call of the guest.
    pub(crate) const fn add_page(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Checks whether pages of a space may be put into a domain's layout at all.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist, then `EACCES`: for device memory, which is the
    /// hardware domain's, and for domain 0.
    pub const fn check_add(&self, domain: DomId, space: MapSpace) -> Result<(), Errno> {
        match (self.check_layout(domain), space) {
            (Ok(()), MapSpace::DEV_MMIO) => Err(Errno::EACCES),
            (own, _) => own,
        }
    }

    /// Refuses a domain whose layout the guest may not change: domain 0 is a PV domain and has
    /// none.
    const fn check_layout(&self, domain: DomId) -> Result<(), Errno> {
        match self.check_own(domain) {
            Err(Errno::EPERM) => Err(Errno::EACCES),
            own => own,
        }
    }

    /// Returns the memory map in force.
    #[must_use]
    pub fn memory_map(&self) -> &[E820Entry] {
        &self.memory_map
    }

    /// Refuses a domain that does not exist, then one that is not the guest's own.
    const fn check_own(&self, domain: DomId) -> Result<(), Errno> {
        match Target::of(self.domain, domain) {
            Some(Target::Own) => Ok(()),
            Some(Target::Host) => Err(Errno::EPERM),
            None => Err(Errno::ESRCH),
        }
    }
}

/// `memory_op` of a domain: what it changes, for the length of a call.
///
/// [`Frames`] is told what pages come and go; `shared_info` and `grants` where their pages are.
pub struct MemoryCalls<'a> {
    ops: &'a mut MemoryOps,
    memory: &'a dyn Frames,
    shared_info: &'a mut SharedInfo,
    grants: &'a mut GrantTable,
    go: Go<'a>,
}

/// What one go of a call may cost, and what the go before left undone.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a joint argument")]
pub struct Go<'a> {
    /// The cost that this go may still have.
    pub budget: &'a Budget,
    /// An extent that the vCPU's call has begun.
    pub begun: &'a mut Option<BegunExtent>,
}

/// An extent of which a part is done; the rest follows in the next go of the same call.
///
/// An extent in a hole takes a memory slot for each page, so one go cannot do all of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BegunExtent {
    change: Change,
    gfns: Range<u64>,
    /// The first frame that is not done.
    next: u64,
}

/// What a call with extents does to each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Remove,
    Populate,
}

impl<'a> MemoryCalls<'a> {
    /// Joins what a call may change.
    pub const fn new(
        ops: &'a mut MemoryOps,
        memory: &'a dyn Frames,
        shared_info: &'a mut SharedInfo,
        grants: &'a mut GrantTable,
        go: Go<'a>,
    ) -> Self {
        Self {
            ops,
            memory,
            shared_info,
            grants,
            go,
        }
    }

    /// Charges the next step of a change of frames; returns how many frames it covers.
    ///
    /// Without a limit the whole range is one step, and guest memory is not asked.
    fn charge_step(&self, gfns: Range<u64>) -> u64 {
        let frames = gfns.end.saturating_sub(gfns.start);
        if !self.go.budget.is_limited() {
            return frames;
        }
        let step = self.memory.next_step(gfns);
        let count = step.frames.clamp(1, frames.max(1));
        self.go.budget.charge(match step.takes_slot {
            true => Budget::SLOT,
            false => u32::try_from(count)
                .unwrap_or(u32::MAX)
                .saturating_mul(Budget::FRAME),
        });
        count
    }

    /// Adds a page at one frame, and charges it.
    fn add_frame(&self, gfn: u64) -> Result<(), FrameError> {
        self.charge_step(gfn..gfn.saturating_add(1));
        self.memory.add_frame(gfn)
    }

    /// Removes the page of one frame, and charges it.
    fn remove_frame(&self, gfn: u64) -> Result<(), FrameError> {
        self.charge_step(gfn..gfn.saturating_add(1));
        self.memory.remove_frame(gfn)
    }
}

impl core::fmt::Debug for MemoryCalls<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut calls = f.debug_struct("MemoryCalls");
        calls.field("ops", &self.ops).finish_non_exhaustive()
    }
}

impl Memory for MemoryCalls<'_> {
    fn increase_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.increase(extents)
    }

    fn decrease_reservation(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.decrease(extents)
    }

    fn populate_physmap(&mut self, extents: &Extents<'_>) -> ExtentsDone {
        self.populate(extents)
    }

    fn maximum_ram_page(&mut self) -> u64 {
        self.ops.host_pages
    }

    fn current_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ops.check_own(domain)?;
        Ok(self.ops.pages)
    }

    fn maximum_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ops.check_own(domain)?;
        Ok(self.ops.max_pages)
    }

    /// The highest frame that ever had a page: it does not fall, in Xen either.
    fn maximum_gpfn(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.ops.check_own(domain)?;
        Ok(self.ops.max_gfn)
    }

    fn may_add_to_physmap(&self, domain: DomId, space: MapSpace) -> Result<(), Errno> {
        self.ops.check_add(domain, space)
    }

    fn add_to_physmap(&mut self, domain: DomId, request: &MapRequest) -> Result<(), Errno> {
        self.ops.check_add(domain, request.space)?;
        self.go.budget.charge(Budget::PAGE);
        self.add(request)
    }

    fn remove_from_physmap(&mut self, domain: DomId, gpfn: u64) -> Result<(), Errno> {
        self.ops.check_layout(domain)?;
        self.go.budget.charge(Budget::PAGE);
        self.remove(gpfn)
    }

    fn memory_map_len(&self) -> u32 {
        u32::try_from(self.ops.memory_map.len()).unwrap_or(MAX_MEMORY_MAP)
    }

    fn memory_map_entry(&self, index: u32) -> E820Entry {
        let entry = self.ops.memory_map.get(index as usize);
        entry.copied().unwrap_or(NO_ENTRY)
    }

    fn set_memory_map(&mut self, domain: DomId, map: &MemoryMapEntries<'_>) -> Result<(), Errno> {
        self.ops.check_own(domain)?;
        let count = map.count().min(MAX_MEMORY_MAP);
        let entries: Result<Vec<_>, _> = (0..count).map(|index| map.get(index)).collect();
        self.ops.memory_map = entries?;
        Ok(())
    }
}

/// For an index past the end, which is never asked for.
const NO_ENTRY: E820Entry = zerocopy::transmute!([0_u8; size_of::<E820Entry>()]);
