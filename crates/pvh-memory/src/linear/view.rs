//! Copies at linear addresses.

use pvh_abi::{Gpa, address::PAGE_SIZE};

use super::{
    Access, LinearAddress, LinearFault, PagingPolicy, PagingState, tables::Tables, walk::Walk,
};
use crate::GuestMemory;

/// Guest memory as a hypercall's pointers see it: by linear address, with the rights of the guest's
/// kernel.
///
/// Make a new one for each hypercall, from the caller's registers. For each page of each copy, the
/// tables are walked in guest memory just before its bytes are copied; nothing is cached, and the
/// vCPU is not asked. A walk reads at most four entries, whatever the tables say.
///
/// A walk that succeeds sets the accessed bit of each entry, and for a write the dirty bit of the
/// last one, as a CPU does. Each is one compare-exchange: an entry that the guest changed meanwhile
/// is left as it is.
#[derive(Debug)]
pub struct LinearMemory<'memory, M: ?Sized> {
    memory: &'memory M,
    state: PagingState,
    /// `None` if linear addresses are physical ones.
    tables: Option<Tables>,
}

impl<'memory, M: GuestMemory + ?Sized> LinearMemory<'memory, M> {
    /// Looks at `memory` through the tables of a vCPU.
    #[must_use]
    pub const fn new(memory: &'memory M, state: &PagingState, policy: &PagingPolicy) -> Self {
        Self {
            memory,
            state: *state,
            tables: Tables::new(state, policy),
        }
    }

    pub(super) const fn tables(&self) -> Option<&Tables> {
        self.tables.as_ref()
    }

    pub(super) const fn memory(&self) -> &'memory M {
        self.memory
    }

    /// Copies `buf.len()` bytes at `at` out of guest memory.
    ///
    /// # Errors
    ///
    /// [`LinearFault`], of the first page that cannot be read; `buf` is then unspecified.
    pub fn read(&self, at: LinearAddress, buf: &mut [u8]) -> Result<(), LinearFault> {
        let mut rest = buf;
        let mut next = Some(at);
        let mut at = at;
        while !rest.is_empty() {
            at = next.ok_or(LinearFault::PastTheEnd { at })?;
            let (now, later) = rest.split_at_mut(len_in_page(at, rest.len()));
            let target = self.translate(at, Access::Read)?;
            let moved = self.memory.read(target, now);
            moved.map_err(|_| LinearFault::NotRam { at, target })?;
            next = at.checked_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// Copies `bytes` into guest memory at `at`.
    ///
    /// # Errors
    ///
    /// [`LinearFault`], of the first page that cannot be written; the pages before it have been.
    pub fn write(&self, at: LinearAddress, bytes: &[u8]) -> Result<(), LinearFault> {
        let mut rest = bytes;
        let mut next = Some(at);
        let mut at = at;
        while !rest.is_empty() {
            at = next.ok_or(LinearFault::PastTheEnd { at })?;
            let (now, later) = rest.split_at(len_in_page(at, rest.len()));
            let target = self.translate(at, Access::Write)?;
            let moved = self.memory.write(target, now);
            moved.map_err(|_| LinearFault::NotRam { at, target })?;
            next = at.checked_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// Returns the guest-physical address that an address leads to, for its page of 4 KiB; does not
    /// check whether that is RAM.
    ///
    /// # Errors
    ///
    /// [`LinearFault`], but never [`LinearFault::NotRam`].
    pub fn translate(&self, at: LinearAddress, access: Access) -> Result<Gpa, LinearFault> {
        let Some(tables) = &self.tables else {
            return Ok(Gpa(at.0));
        };
        if tables.end.is_some_and(|end| at >= end) {
            return Err(LinearFault::PastTheEnd { at });
        }
        Walk::new(self.memory, &self.state, tables, at).finish(access)
    }
}

/// How many of `len` bytes at `at` lie in its page of 4 KiB; not 0 if `len` is not.
fn len_in_page(at: LinearAddress, len: usize) -> usize {
    let left = PAGE_SIZE.saturating_sub(at.0 % PAGE_SIZE);
    usize::try_from(left).unwrap_or(usize::MAX).min(len)
}
