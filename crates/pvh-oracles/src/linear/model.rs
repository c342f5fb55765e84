//! Linear addresses by the second walk of pvh-testkit.

use pvh_abi::Gpa;
use pvh_memory::{Access, LinearAddress, LinearFault, MemoryError, PagingPolicy, PagingState};
use pvh_testkit::paging::{Fault, Paging};

use crate::memory::SparseMemory;

pub(super) struct Model<'a> {
    pub(super) memory: &'a SparseMemory,
    pub(super) paging: Paging,
}

impl<'a> Model<'a> {
    pub(super) fn new(
        memory: &'a SparseMemory,
        state: &PagingState,
        policy: &PagingPolicy,
    ) -> Self {
        let paging = Paging::of(state, policy);
        Self { memory, paging }
    }

    /// Moves `len` bytes at `at`, a page at a time.
    pub(super) fn copy(
        &self,
        at: u64,
        len: usize,
        access: Access,
        mut piece: impl FnMut(Gpa, usize, usize) -> Result<(), MemoryError>,
    ) -> Result<(), LinearFault> {
        let mut done = 0;
        let mut here = at;
        while done < len {
            let in_page = usize::try_from(4096 - here % 4096).unwrap_or(0);
            let step = in_page.min(len - done);
            let target = self.translate(here, access)?;
            let at = LinearAddress(here);
            let moved = piece(target, done, done + step);
            moved.map_err(|_| LinearFault::NotRam { at, target })?;
            done += step;
            if done < len {
                let next = here.checked_add(step as u64);
                here = next.ok_or(LinearFault::PastTheEnd { at })?;
            }
        }
        Ok(())
    }

    pub(super) fn translate(&self, linear: u64, access: Access) -> Result<Gpa, LinearFault> {
        let at = LinearAddress(linear);
        let found = self
            .paging
            .translate(self.memory, linear, access == Access::Write);
        found.map(Gpa).map_err(|fault| match fault {
            Fault::PastTheEnd => LinearFault::PastTheEnd { at },
            Fault::TableNotRam { level, entry } => LinearFault::TableNotRam {
                at,
                level,
                entry: Gpa(entry),
            },
            Fault::NotPresent { level } => LinearFault::NotPresent { at, level },
            Fault::ReservedBits { level, bits } => LinearFault::ReservedBits { at, level, bits },
            Fault::UserPage => LinearFault::UserPage { at },
            Fault::ProtectionKey { key } => LinearFault::ProtectionKey { at, key },
            Fault::ReadOnly => LinearFault::ReadOnly { at },
        })
    }
}
