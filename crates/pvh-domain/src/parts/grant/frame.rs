//! One frame of the grant table, before and after the guest maps it.

use pvh_abi::{Errno, Gpa, address::PAGE_SIZE};
use pvh_memory::{GuestMemory, MemoryError, VecMemory};

use crate::parts::spot::Spot;

/// A frame of the table.
#[derive(Debug)]
pub(super) enum Frame {
    /// Not mapped: the domain keeps the bytes, at address 0 of a separate memory.
    Own(VecMemory),
    /// Mapped by the guest.
    Guest(Gpa),
}

impl Default for Frame {
    fn default() -> Self {
        Self::Own(own_page(&[0; PAGE_BYTES]))
    }
}

impl Frame {
    pub(super) const fn place(&self) -> Option<Gpa> {
        match self {
            Self::Own(_) => None,
            Self::Guest(at) => Some(*at),
        }
    }

    pub(super) fn gfn(&self) -> Option<u64> {
        self.place().map(|at| at.0 / PAGE_SIZE)
    }

    /// The place `offset` bytes into the frame.
    pub(super) fn at(&self, offset: u64) -> Spot<'_> {
        match self {
            Self::Own(page) => Spot::own(page, Gpa(offset)),
            Self::Guest(at) => Spot::guest(*at).offset(offset),
        }
    }

    /// Moves the frame to an address that is RAM.
    pub(super) fn map(&mut self, memory: &dyn GuestMemory, at: Gpa) -> Result<(), Errno> {
        let contents = self.contents(memory).map_err(|_| Errno::EINVAL)?;
        memory.write(at, &contents).map_err(|_| Errno::EINVAL)?;
        *self = Self::Guest(at);
        Ok(())
    }

    pub(super) fn unmap(&mut self, memory: &dyn GuestMemory) {
        let contents = self.contents(memory).unwrap_or([0; PAGE_BYTES]);
        *self = Self::Own(own_page(&contents));
    }

    fn contents(&self, memory: &dyn GuestMemory) -> Result<[u8; PAGE_BYTES], MemoryError> {
        let mut bytes = [0; PAGE_BYTES];
        self.at(0).read(memory, &mut bytes)?;
        Ok(bytes)
    }
}

fn own_page(bytes: &[u8; PAGE_BYTES]) -> VecMemory {
    VecMemory::from_bytes(Gpa(0), bytes)
}

const PAGE_BYTES: usize = 4096;
