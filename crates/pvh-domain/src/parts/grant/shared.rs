//! The frames of the table and the uses of its entries: what the domain and the host's back ends
//! share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pvh_abi::DomId;
use pvh_memory::{GuestMemory, WordOp};

use super::{PERMIT_ACCESS, frame::Frame};
use crate::parts::{spot::Spot, target::HOST};

/// The frames and the uses, behind one lock.
///
/// It is held for one entry, or for the move of one frame, and never while data is transferred. A
/// thread that holds the domain's lock may take it, and a thread that holds it takes no other.
#[derive(Debug, Default)]
pub(super) struct SharedTable(Mutex<Shared>);

impl SharedTable {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic leaves nothing half done that matters: marks are single words.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the frames are, and which entries the host uses.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) frames: Vec<Frame>,
    /// By reference: at most one for each entry of the table, and for each page that a back end
    /// holds.
    uses: BTreeMap<u32, Uses>,
}

/// How often an entry is in use by the host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Uses {
    readers: u32,
    writers: u32,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            frames: vec![Frame::default()],
            uses: BTreeMap::new(),
        }
    }
}

impl Shared {
    /// The place of an entry: a word of flags and domain, then the frame's number.
    pub(super) fn entry(&self, reference: u32) -> Option<Spot<'_>> {
        let frame = self.frames.get((reference / ENTRIES) as usize)?;
        Some(frame.at(offset(reference)))
    }

    /// The place of an entry, if the guest has mapped that frame of the table.
    pub(super) fn mapped_entry(&self, reference: u32) -> Option<Spot<'static>> {
        let frame = self.frames.get((reference / ENTRIES) as usize)?;
        Some(Spot::guest(frame.place()?).offset(offset(reference)))
    }

    /// Has the table have so many frames.
    pub(super) fn grow(&mut self, count: u32) {
        let count = count as usize;
        if count > self.frames.len() {
            self.frames.resize_with(count, Frame::default);
        }
    }

    /// Takes a frame of the table away from the guest; tells whether there was one at `gfn`.
    pub(super) fn unmap(&mut self, memory: &dyn GuestMemory, gfn: u64) -> bool {
        let mut frames = self.frames.iter_mut();
        let frame = frames.find(|frame| frame.gfn() == Some(gfn));
        frame.is_some_and(|frame| {
            frame.unmap(memory);
            true
        })
    }

    /// Counts one more use of an entry that has been marked.
    pub(super) fn begin_use(&mut self, reference: u32, used: Use) {
        let uses = self.uses.entry(reference).or_default();
        let count = uses.count(used);
        // More pages than that do not fit into any host's memory.
        *count = count.saturating_add(1);
    }

    /// Ends one use of an entry, and takes back the marks that no other use needs.
    ///
    /// Marks in a frame that the guest has not mapped stay: the domain alone changes those frames.
    pub(super) fn end_use(&mut self, memory: &dyn GuestMemory, reference: u32, used: Use) {
        let Some(uses) = self.uses.get_mut(&reference) else {
            return;
        };
        let count = uses.count(used);
        *count = count.saturating_sub(1);
        let left = *uses;
        if left == Uses::default() {
            self.uses.remove(&reference);
        }
        let Some(entry) = self.mapped_entry(reference) else {
            return;
        };
        if left == Uses::default() {
            unmark(memory, entry, Use::Write);
        } else if left.writers == 0 {
            entry.word(memory, WordOp::And(!WRITING));
        }
    }
}

impl Uses {
    const fn count(&mut self, used: Use) -> &mut u32 {
        match used {
            Use::Read => &mut self.readers,
            Use::Write => &mut self.writers,
        }
    }
}

/// What an entry is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    Read,
    Write,
}

/// Who uses an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grantee {
    /// The guest itself, in a copy.
    Own(DomId),
    /// Domain 0, which maps the page. A grant of a part of a page cannot be mapped.
    Host,
}

/// Marks an entry as used, if it is there for the grantee. Answers whether it is.
///
/// The guest may change the entry meanwhile: after five attempts it counts as refused.
pub(super) fn mark(
    memory: &dyn GuestMemory,
    entry: Spot<'_>,
    grantee: Grantee,
    used: Use,
) -> Option<()> {
    let mut word = entry.word(memory, WordOp::Load);
    for _ in 0..ATTEMPTS {
        let found = word?;
        let exchange = WordOp::CompareExchange {
            expected: found,
            new: marked(found, grantee, used)?,
        };
        word = entry.word(memory, exchange);
        if word == Some(found) {
            return Some(());
        }
    }
    None
}

/// Takes the marks of a use back.
pub(super) fn unmark(memory: &dyn GuestMemory, entry: Spot<'_>, used: Use) {
    entry.word(memory, WordOp::And(!marks(used)));
}

/// The word with its marks; `None` if the entry does not allow the use.
fn marked(word: u32, grantee: Grantee, used: Use) -> Option<u32> {
    let (kind, domain) = match grantee {
        Grantee::Own(domain) => (TYPE, domain),
        Grantee::Host => (TYPE | SUB_PAGE, HOST),
    };
    let is_open = word & kind == u32::from(PERMIT_ACCESS) && word >> 16 == u32::from(domain.0);
    let is_allowed = match used {
        Use::Read => is_open,
        Use::Write => is_open && word & READ_ONLY == 0,
    };
    is_allowed.then_some(word | marks(used))
}

const fn marks(used: Use) -> u32 {
    match used {
        Use::Read => READING,
        Use::Write => READING | WRITING,
    }
}

/// Where an entry begins in its frame.
fn offset(reference: u32) -> u64 {
    u64::from(reference % ENTRIES).saturating_mul(ENTRY_BYTES)
}

/// Attempts to change a word that the guest may change as well.
const ATTEMPTS: u32 = 5;
const ENTRIES: u32 = 512;
const ENTRY_BYTES: u64 = 8;
const TYPE: u32 = 0b11;
const READ_ONLY: u32 = 1 << 2;
const READING: u32 = 1 << 3;
const WRITING: u32 = 1 << 4;
const SUB_PAGE: u32 = 1 << 8;
