//! Places in pages that guest and domain share.

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

/// A place in a page that guest and domain share: in guest memory, or in a page that the guest has
/// not mapped yet.
///
/// Words are changed by sequentially consistent operations only. All of them have 32 bits, in
/// 64-bit layouts too: every change is of one bit or of a whole field, and a guest may register a
/// `vcpu_info` that is aligned to 4.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'page> {
    /// The page, if it is not in guest memory.
    own: Option<&'page VecMemory>,
    at: Gpa,
}

impl<'page> Spot<'page> {
    /// A place in a page that the domain keeps.
    pub(crate) const fn own(page: &'page VecMemory, at: Gpa) -> Self {
        Self {
            own: Some(page),
            at,
        }
    }

    /// A place in guest memory.
    pub(crate) const fn guest(at: Gpa) -> Self {
        Self { own: None, at }
    }

    /// The place `len_bytes` further on.
    pub(crate) const fn offset(self, len_bytes: u64) -> Self {
        Self {
            own: self.own,
            at: Gpa(self.at.0.saturating_add(len_bytes)),
        }
    }

    /// Applies an operation to the word here and returns its previous value; `None` if the guest's
    /// memory there is gone, and nothing has happened then.
    pub(crate) fn word(self, memory: &dyn GuestMemory, op: WordOp<u32>) -> Option<u32> {
        match self.own {
            Some(page) => page.atomic_u32(self.at, op).ok(),
            None => memory.atomic_u32(self.at, op).ok(),
        }
    }

    /// Sets a bit of the word here, counted from 0, and tells whether it was clear.
    pub(crate) fn set_bit(self, memory: &dyn GuestMemory, bit: u32) -> bool {
        let mask = 1_u32.wrapping_shl(bit);
        let before = self.word(memory, WordOp::Or(mask));
        before.is_some_and(|before| before & mask == 0)
    }

    /// Clears a bit of the word here and tells whether it was set.
    pub(crate) fn clear_bit(self, memory: &dyn GuestMemory, bit: u32) -> bool {
        let mask = 1_u32.wrapping_shl(bit);
        let before = self.word(memory, WordOp::And(!mask));
        before.is_some_and(|before| before & mask != 0)
    }

    /// Tells whether a bit of the word here is set.
    pub(crate) fn has_bit(self, memory: &dyn GuestMemory, bit: u32) -> bool {
        let word = self.word(memory, WordOp::Load).unwrap_or(0);
        word & 1_u32.wrapping_shl(bit) != 0
    }

    /// Writes words one after the other, each at once.
    pub(crate) fn put_words(self, memory: &dyn GuestMemory, words: &[u32]) {
        let mut here = self;
        for &word in words {
            here.word(memory, WordOp::Swap(word));
            here = here.offset(4);
        }
    }

    pub(crate) fn read(self, memory: &dyn GuestMemory, buf: &mut [u8]) -> Result<(), MemoryError> {
        match self.own {
            Some(page) => page.read(self.at, buf),
            None => memory.read(self.at, buf),
        }
    }
}

/// Returns the address of a frame that the guest may give for words that are shared with it: a
/// whole page of RAM.
pub(crate) fn usable_frame(memory: &dyn GuestMemory, frame: u64) -> Option<Gpa> {
    let at = Gpa(frame.checked_mul(PAGE_SIZE)?);
    memory.is_ram(at, PAGE_SIZE).then_some(at)
}
