//! The grants of a guest as the host's back ends use them.

use std::{fmt, ops::Deref, sync::Arc};

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, WordOp};
use pvh_ring::{Access, GrantedPage, Grants};

use super::{
    FRAME_OFFSET, GrantTable,
    shared::{Grantee, SharedTable, Use, mark},
};
use crate::parts::spot::usable_frame;

/// The pages that a guest has granted to domain 0, for the back ends of the host.
///
/// It works without the domain's lock, on any thread. [`take`](Grants::take) marks the entry as in
/// use, as grant_table.h says, and the page that it returns takes the marks back when it is dropped:
/// on every way out. Several pages of one entry are counted, and the last one takes the marks back.
///
/// `memory` points to the memory that the embedder passes to the domain's calls. Each page keeps a
/// copy of the pointer.
///
/// A take or a drop costs one short lock, and up to six accesses to one word of guest memory. What
/// the table keeps grows with the pages that back ends hold, up to one entry for each reference that
/// the guest can have (32768). Nothing waits for the guest. A back end that is stopped in the middle
/// drops its pages, and the marks with them.
///
/// # What the guest can do
///
/// It may change an entry at any time. An entry that is in use and no longer says so, or is given
/// other marks, harms only the guest. It may remove the page itself: then an access to
/// [`HostPage::gpa`] is an error, or reaches memory that the guest has put there since.
pub struct HostGrants<M> {
    table: Arc<SharedTable>,
    memory: M,
}

/// A page that a guest has granted, in use. Dropping it ends the use.
pub struct HostPage<M: Deref<Target: GuestMemory + Sized>> {
    grants: HostGrants<M>,
    reference: u32,
    used: Use,
    at: Gpa,
}

/// Why a reference of a guest cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The guest's table has no such entry, or the guest has not mapped that frame of its table.
    #[error("the guest's grant table has no entry {reference}")]
    NoEntry {
        /// The reference.
        reference: u32,
    },
    /// The entry does not grant this access to domain 0, or changed again and again.
    #[error("entry {reference} of the guest's grant table does not permit this access")]
    NotPermitted {
        /// The reference.
        reference: u32,
    },
    /// The entry grants a frame that is not RAM.
    #[error("entry {reference} of the guest's grant table names a frame that is not RAM")]
    NotRam {
        /// The reference.
        reference: u32,
    },
}

impl GrantTable {
    /// Returns the grants to domain 0, as its back ends use them.
    #[must_use]
    pub fn host_grants<M>(&self, memory: M) -> HostGrants<M> {
        HostGrants {
            table: Arc::clone(&self.shared),
            memory,
        }
    }
}

impl<M: Deref<Target: GuestMemory + Sized> + Clone> Grants for HostGrants<M> {
    type Page = HostPage<M>;
    type Error = GrantError;

    fn take(&self, reference: u32, access: Access) -> Result<HostPage<M>, GrantError> {
        let memory = &*self.memory;
        let used = match access {
            Access::Read => Use::Read,
            Access::Write => Use::Write,
        };
        let mut shared = self.table.lock();
        let entry = shared.mapped_entry(reference);
        let entry = entry.ok_or(GrantError::NoEntry { reference })?;
        let marked = mark(memory, entry, Grantee::Host, used);
        marked.ok_or(GrantError::NotPermitted { reference })?;
        shared.begin_use(reference, used);
        let frame = entry.offset(FRAME_OFFSET).word(memory, WordOp::Load);
        let Some(at) = frame.and_then(|frame| usable_frame(memory, frame.into())) else {
            shared.end_use(memory, reference, used);
            return Err(GrantError::NotRam { reference });
        };
        drop(shared);
        Ok(HostPage {
            grants: self.clone(),
            reference,
            used,
            at,
        })
    }
}

impl<M: Deref<Target: GuestMemory + Sized>> GrantedPage for HostPage<M> {
    fn gpa(&self) -> Gpa {
        self.at
    }
}

impl<M: Deref<Target: GuestMemory + Sized>> Drop for HostPage<M> {
    fn drop(&mut self) {
        let HostGrants { table, memory } = &self.grants;
        table.lock().end_use(&**memory, self.reference, self.used);
    }
}

impl<M: Clone> Clone for HostGrants<M> {
    fn clone(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            memory: self.memory.clone(),
        }
    }
}

impl<M> fmt::Debug for HostGrants<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostGrants").finish_non_exhaustive()
    }
}

impl<M: Deref<Target: GuestMemory + Sized>> fmt::Debug for HostPage<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostPage")
            .field("reference", &self.reference)
            .field("used", &self.used)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
