//! One event word of the FIFO ABI.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, WordOp};

/// The event word of a port, at its place in guest memory.
///
/// A word whose memory is gone reads as 0, and changing it does nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventWord(pub(super) Gpa);

impl EventWord {
    pub(super) const PENDING: u32 = 1 << 31;
    pub(super) const MASKED: u32 = 1 << 30;
    pub(super) const LINKED: u32 = 1 << 29;
    const BUSY: u32 = 1 << 28;
    const LINK: u32 = 0x0001_ffff;

    /// Sets a bit and tells whether it was clear.
    pub(super) fn set(self, memory: &dyn GuestMemory, bit: u32) -> bool {
        let before = memory.atomic_u32(self.0, WordOp::Or(bit));
        before.is_ok_and(|before| before & bit == 0)
    }

    pub(super) fn clear(self, memory: &dyn GuestMemory, bit: u32) {
        // Of a word that is gone there is nothing to clear.
        let _ = memory.atomic_u32(self.0, WordOp::And(!bit));
    }

    pub(super) fn has(self, memory: &dyn GuestMemory, bit: u32) -> bool {
        self.load(memory) & bit != 0
    }

    /// Writes `link` into the word if it is linked, and tells whether it was.
    ///
    /// A guest that keeps the rules can change a linked word four times at most once BUSY is set:
    /// it sets MASKED, clears PENDING, clears LINKED, and an unmask call clears MASKED. So a fifth
    /// failure means a guest that breaks them: the answer is true then too, and what it has queued
    /// is lost to it.
    pub(super) fn set_link(self, memory: &dyn GuestMemory, link: u32) -> bool {
        match self.try_link(memory, self.load(memory), link) {
            Attempt::Linked => return true,
            Attempt::NotLinked => return false,
            Attempt::Changed(_) => {}
        }
        self.set(memory, Self::BUSY);
        let mut found = self.load(memory);
        for _ in 0..ATTEMPTS_WHILE_BUSY {
            match self.try_link(memory, found, link) {
                Attempt::Linked => return true,
                Attempt::NotLinked => {
                    self.clear(memory, Self::BUSY);
                    return false;
                }
                Attempt::Changed(now) => found = now,
            }
        }
        self.clear(memory, Self::BUSY);
        true
    }

    /// One attempt, on a word that was `found`; success clears BUSY in the same step.
    fn try_link(self, memory: &dyn GuestMemory, found: u32, link: u32) -> Attempt {
        if found & Self::LINKED == 0 {
            return Attempt::NotLinked;
        }
        let op = WordOp::CompareExchange {
            expected: found,
            new: (found & !(Self::BUSY | Self::LINK)) | link,
        };
        match memory.atomic_u32(self.0, op) {
            Ok(now) if now == found => Attempt::Linked,
            Ok(now) => Attempt::Changed(now),
            Err(_) => Attempt::NotLinked,
        }
    }

    fn load(self, memory: &dyn GuestMemory) -> u32 {
        memory.atomic_u32(self.0, WordOp::Load).unwrap_or(0)
    }
}

enum Attempt {
    Linked,
    NotLinked,
    /// The word was another one.
    Changed(u32),
}

const ATTEMPTS_WHILE_BUSY: u32 = 4;
