//! Guest memory that the guest changes while the host uses it.

use std::cell::RefCell;

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

use crate::grants::GrantTable;

/// The host's view of guest memory: it keeps a record of what the host did, and makes changes of the
/// guest between two accesses of the host.
///
/// The guest's own view is [`ram`](Self::ram).
#[derive(Debug)]
pub struct RacingMemory {
    ram: VecMemory,
    grants: GrantTable,
    changes: RefCell<Vec<Change>>,
    seen: RefCell<Vec<Seen>>,
}

/// One access of the host, as it turned out.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a back end has these accesses")]
pub enum Seen {
    /// Bytes were copied out.
    Read {
        /// Where.
        at: Gpa,
        /// What was found.
        bytes: Vec<u8>,
    },
    /// Bytes were copied in.
    Write {
        /// Where.
        at: Gpa,
        /// What was written.
        bytes: Vec<u8>,
        /// How many granted pages were in use then.
        in_use: usize,
    },
    /// A word was read and perhaps changed, in one step.
    Word {
        /// Where.
        at: Gpa,
        /// What was found.
        found: u32,
        /// What was written, if anything was.
        written: Option<u32>,
    },
}

#[derive(Debug)]
struct Change {
    after: usize,
    at: Gpa,
    bytes: Vec<u8>,
}

impl RacingMemory {
    /// Makes zeroed RAM from address 0 on. `grants` are asked how many pages are in use.
    ///
    /// # Panics
    ///
    /// If the host cannot hold it.
    #[must_use]
    pub fn new(len_bytes: u64, grants: &GrantTable) -> Self {
        let ram = VecMemory::zeroed(&[(Gpa(0), len_bytes)]);
        #[expect(clippy::expect_used, reason = "a test may stop")]
        let ram = ram.expect("RAM of a test is small");
        Self {
            ram,
            grants: grants.clone(),
            changes: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    /// The memory as the guest uses it: its accesses are not in the record.
    #[must_use]
    pub const fn ram(&self) -> &VecMemory {
        &self.ram
    }

    /// Lets the guest write `bytes` once the host has made `accesses` more accesses. A change outside
    /// of RAM is dropped.
    pub fn change_after(&self, accesses: usize, at: Gpa, bytes: &[u8]) {
        let change = Change {
            after: accesses,
            at,
            bytes: bytes.to_vec(),
        };
        self.changes.borrow_mut().push(change);
    }

    /// Returns the record since the last call, and drops the changes that are not due yet.
    pub fn take_seen(&self) -> Vec<Seen> {
        self.changes.borrow_mut().clear();
        std::mem::take(&mut self.seen.borrow_mut())
    }

    /// Makes the changes that are due before the next access of the host.
    fn let_guest_run(&self) {
        self.changes.borrow_mut().retain_mut(|change| {
            let is_due = change.after == 0;
            if is_due {
                // Outside of RAM it is nobody's.
                let _ = self.ram.write(change.at, &change.bytes);
            }
            change.after = change.after.saturating_sub(1);
            !is_due
        });
    }

    fn note(&self, seen: Seen) {
        self.seen.borrow_mut().push(seen);
    }
}

impl GuestMemory for RacingMemory {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.ram.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.let_guest_run();
        self.ram.read(at, buf)?;
        let bytes = buf.to_vec();
        self.note(Seen::Read { at, bytes });
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.let_guest_run();
        self.ram.write(at, bytes)?;
        let bytes = bytes.to_vec();
        let in_use = self.grants.in_use();
        self.note(Seen::Write { at, bytes, in_use });
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.let_guest_run();
        let found = self.ram.atomic_u32(at, op)?;
        let written = op.apply(found);
        self.note(Seen::Word { at, found, written });
        Ok(found)
    }

    /// No back end uses 64-bit words: they are not in the record.
    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.let_guest_run();
        self.ram.atomic_u64(at, op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_writes_between_two_accesses_of_the_host() {
        let memory = RacingMemory::new(0x1000, &GrantTable::default());
        memory.change_after(1, Gpa(8), &[7; 4]);
        memory.change_after(0, Gpa(0x1000), &[1]);
        let mut word = [0; 4];
        for want in [0, 7, 7] {
            memory.read(Gpa(8), &mut word).unwrap();
            assert_eq!(word, [want; 4]);
        }
        assert_eq!(memory.atomic_u32(Gpa(8), WordOp::Swap(1)), Ok(0x0707_0707));
        let seen = memory.take_seen();
        let last = Seen::Word {
            at: Gpa(8),
            found: 0x0707_0707,
            written: Some(1),
        };
        assert_eq!((seen.len(), seen.last()), (4, Some(&last)));
        assert_eq!(memory.take_seen(), []);
    }
}
