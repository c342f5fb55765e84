//! The grant table, version 1 (xen/include/public/grant_table.h): the frames that a guest lets
//! others use.
//!
//! The toolstack gives such a domain no room for mappings (`max_maptrack_frames` 0): it can grant
//! and copy, but every request to map is answered with "no handle left". Domain 0 has a table too,
//! in which nothing is granted.

mod copy;
mod frame;
mod host;
mod shared;

use std::sync::Arc;

use pvh_abi::{DomId, Errno, Gpa, grant::GrantStatus};
use pvh_hypercall::group::GrantTableSize;
use pvh_memory::{GuestMemory, WordOp};

use crate::parts::{spot::usable_frame, target::Target};
use frame::Frame;
use shared::SharedTable;

pub use host::{GrantError, HostGrants, HostPage};

/// The reference by which domain 0 uses the console's ring.
#[doc(alias = "GNTTAB_RESERVED_CONSOLE")]
pub const CONSOLE_REFERENCE: u32 = 0;

/// The reference by which domain 0 uses xenstore's ring.
#[doc(alias = "GNTTAB_RESERVED_XENSTORE")]
pub const XENSTORE_REFERENCE: u32 = 1;

/// How many frames a table has at most; 512 entries lie in each.
pub const MAX_FRAMES: u32 = 64;

/// The grant table of a domain.
///
/// A frame of the table exists before the guest maps it: until then the domain keeps the page
/// itself. Mapping it copies what it holds to the guest's frame, as with
/// [`SharedInfo`](crate::parts::shared_info::SharedInfo).
///
/// Where the frames are is behind a lock of its own, because the host's back ends use entries
/// while other threads call the domain; see [`HostGrants`].
#[derive(Debug)]
pub struct GrantTable {
    domain: DomId,
    shared: Arc<SharedTable>,
    max_frames: u32,
}

/// The embedder's side, and `XENMEM_add_to_physmap` with space 1.
impl GrantTable {
    /// Makes the table of a new domain: one frame of zeros, mapped nowhere. `max_frames` is used as
    /// 1 to 64.
    #[must_use]
    pub fn new(domain: DomId, max_frames: u32) -> Self {
        Self {
            domain,
            shared: Arc::default(),
            max_frames: max_frames.clamp(1, MAX_FRAMES),
        }
    }

    /// Grants a frame to domain 0, as the toolstack does for the two rings before the guest runs.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a reference that is in no frame of the table.
    pub fn grant_to_host(
        &self,
        memory: &dyn GuestMemory,
        reference: u32,
        frame: u32,
    ) -> Result<(), Errno> {
        let shared = self.shared.lock();
        let entry = shared.entry(reference).ok_or(Errno::EINVAL)?;
        entry.offset(FRAME_OFFSET).put_words(memory, &[frame]);
        entry.put_words(memory, &[u32::from(PERMIT_ACCESS)]);
        Ok(())
    }

    /// Gives a frame of the table a frame of the guest, or moves it to another: what it holds is
    /// copied. The table grows for that. A frame of the table that was there is taken back.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an index past the largest table; `EINVAL` for a frame that is not RAM, and the
    /// table has grown then.
    pub fn map_frame(
        &mut self,
        memory: &dyn GuestMemory,
        index: u64,
        gfn: u64,
    ) -> Result<(), Errno> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
        if index >= self.max_frames {
            return Err(Errno::EINVAL);
        }
        let mut shared = self.shared.lock();
        shared.grow(index.saturating_add(1));
        let at = usable_frame(memory, gfn).ok_or(Errno::EINVAL)?;
        let frame = shared.frames.get(index as usize);
        if frame.and_then(Frame::place) == Some(at) {
            return Ok(()); // a copy onto itself could undo what another vCPU writes meanwhile
        }
        shared.unmap(memory, gfn);
        let frame = shared.frames.get_mut(index as usize);
        frame.ok_or(Errno::EINVAL)?.map(memory, at)
    }

    /// Takes the frame of the table that is at `gfn` away from the guest, with what it holds; the
    /// guest's frame keeps a copy. Answers whether there was one.
    pub fn unmap_frame(&mut self, memory: &dyn GuestMemory, gfn: u64) -> bool {
        self.shared.lock().unmap(memory, gfn)
    }

    /// Has the table reach an index.
    ///
    /// # Errors
    ///
    /// `EINVAL` past the largest table.
    pub(crate) fn grow_to(&mut self, index: u32) -> Result<(), Errno> {
        if index >= self.max_frames {
            return Err(Errno::EINVAL);
        }
        self.shared.lock().grow(index.saturating_add(1));
        Ok(())
    }

    /// Where the guest has a frame of the table.
    pub(crate) fn place_of(&self, index: u32) -> Option<Gpa> {
        let shared = self.shared.lock();
        shared.frames.get(index as usize).and_then(Frame::place)
    }

    /// Which frame of the table is at `gfn`.
    pub(crate) fn index_at(&self, gfn: u64) -> Option<u32> {
        let shared = self.shared.lock();
        let mut frames = (0..).zip(&shared.frames);
        let found = frames.find(|(_, frame)| frame.gfn() == Some(gfn));
        found.map(|(index, _)| index)
    }

    /// The guest's frames that the table is at.
    pub(crate) fn places(&self) -> Vec<u64> {
        let shared = self.shared.lock();
        shared.frames.iter().filter_map(Frame::gfn).collect()
    }

    fn target(&self, domain: DomId) -> Option<Target> {
        Target::of(self.domain, domain)
    }

    /// The guest's own table is the only one that it may ask about.
    fn check_own(&self, domain: DomId) -> Result<(), GrantStatus> {
        match self.target(domain) {
            Some(Target::Own) => Ok(()),
            Some(Target::Host) => Err(GrantStatus::PERMISSION_DENIED),
            None => Err(GrantStatus::BAD_DOMAIN),
        }
    }
}

/// `grant_table_op`.
impl GrantTable {
    /// `setup_table`: grows the table to `count` frames and answers the frame number of each, all
    /// ones where the guest has not mapped it.
    ///
    /// # Errors
    ///
    /// In this order: `BAD_DOMAIN`, `PERMISSION_DENIED` for domain 0, `GENERAL_ERROR` for more than
    /// it may have.
    pub fn setup_table(
        &mut self,
        domain: DomId,
        count: u32,
    ) -> Result<impl Iterator<Item = u64>, GrantStatus> {
        self.check_own(domain)?;
        if count > self.max_frames {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let mut shared = self.shared.lock();
        shared.grow(count);
        let frames = shared.frames.iter().take(count as usize);
        let gfns = frames.map(|frame| frame.gfn().unwrap_or(u64::MAX));
        Ok(gfns.collect::<Vec<_>>().into_iter())
    }

    /// `query_size`. A table has one frame from the domain's creation on, as in Xen 4.17.
    ///
    /// # Errors
    ///
    /// `BAD_DOMAIN`, `PERMISSION_DENIED` for domain 0.
    pub fn query_size(&self, domain: DomId) -> Result<GrantTableSize, GrantStatus> {
        self.check_own(domain)?;
        Ok(GrantTableSize {
            frames: u32::try_from(self.shared.lock().frames.len()).unwrap_or(self.max_frames),
            max_frames: self.max_frames,
        })
    }

    /// `set_version`: answers the version in use, which is 1 whatever comes.
    ///
    /// # Errors
    ///
    /// `ENOSYS` for 2, `EINVAL` for any other than 1 and 2.
    pub const fn set_version(&self, version: u32) -> Result<u32, Errno> {
        match version {
            1 => Ok(1),
            2 => Err(Errno::ENOSYS),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `get_version`: 1.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist, `EPERM` for domain 0.
    pub fn version(&self, domain: DomId) -> Result<u32, Errno> {
        match self.target(domain).ok_or(Errno::ESRCH)? {
            Target::Own => Ok(1),
            Target::Host => Err(Errno::EPERM),
        }
    }

    /// `map_grant_ref`: there is no handle for it, so it always fails; `domain` has to be an id,
    /// not `SELF`.
    #[must_use]
    pub fn map(&self, flags: u32, domain: DomId) -> GrantStatus {
        if flags & (MAP_DEVICE | MAP_HOST) == 0 {
            return GrantStatus::BAD_GNTREF;
        }
        if flags & (MAP_DEVICE | MAP_APPLICATION | MAP_CONTAINS_PTE) != 0 {
            return GrantStatus::GENERAL_ERROR;
        }
        match Target::of_number(self.domain, domain) {
            Some(_) => GrantStatus::NO_SPACE,
            None => GrantStatus::BAD_DOMAIN,
        }
    }

    /// `unmap_grant_ref`: no handle was ever given.
    #[must_use]
    pub const fn unmap(&self) -> GrantStatus {
        GrantStatus::BAD_HANDLE
    }

    /// `swap_grant_ref`: exchanges two entries. `BAD_GNTREF` for one that is in no frame of the
    /// table.
    pub fn swap(&self, memory: &dyn GuestMemory, first: u32, second: u32) -> GrantStatus {
        let shared = self.shared.lock();
        let (Some(first), Some(second)) = (shared.entry(first), shared.entry(second)) else {
            return GrantStatus::BAD_GNTREF;
        };
        let words = [first, second].map(|entry| {
            let frame = entry.offset(FRAME_OFFSET);
            [entry, frame].map(|word| word.word(memory, WordOp::Load))
        });
        let [[Some(a), Some(a_frame)], [Some(b), Some(b_frame)]] = words else {
            return GrantStatus::GENERAL_ERROR;
        };
        first.put_words(memory, &[b, b_frame]);
        second.put_words(memory, &[a, a_frame]);
        GrantStatus::OKAY
    }
}

/// Where the number of the granted frame is in an entry.
const FRAME_OFFSET: u64 = 4;
const PERMIT_ACCESS: u16 = 1;
const MAP_DEVICE: u32 = 1;
const MAP_HOST: u32 = 1 << 1;
const MAP_APPLICATION: u32 = 1 << 3;
const MAP_CONTAINS_PTE: u32 = 1 << 4;
