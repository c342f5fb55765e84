//! Frames that the guest adds and removes while it runs, kept as differences from its first RAM.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use kvm_ioctls::VmFd;
use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{FrameError, GuestMemory, MemoryError};

use super::{
    pool::Pool,
    ranges::RamError,
    reserved::{IDENTITY_MAP_AT, KVM_PRIVATE_BYTES},
    slots,
};

/// The largest number of frames outside RAM that can have a page at one time. Each uses one memory
/// slot.
pub const MAX_ADDED_FRAMES: u32 = 256;

/// The frames that differ from the RAM that was mapped at creation.
pub(crate) struct FrameTable {
    /// Whether the guest has ever changed a frame. Until then no access takes the lock.
    is_changed: AtomicBool,
    state: RwLock<State>,
    pool: Pool,
    /// The first frame that the guest cannot address.
    end: u64,
}

#[derive(Default)]
pub(crate) struct State {
    removed: Removed,
    /// RAM whose pages the host has removed without putting new ones in their place.
    lost: Vec<Range<u64>>,
    /// From frame number to page of the pool.
    added: BTreeMap<u64, u32>,
    free: Vec<u32>,
    /// The machines that use this RAM, each with its first memory slot for the pool.
    machines: Vec<(Weak<VmFd>, u32)>,
}

/// What backs a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FrameState {
    /// RAM since creation.
    Ram,
    /// Former RAM that the guest has removed.
    Removed,
    /// This page of the pool.
    Added(u32),
    /// Former RAM without a page, which cannot get one again.
    Lost,
    /// No memory.
    Hole,
}

impl FrameTable {
    pub(crate) fn new(address_bits: u8) -> Result<Self, RamError> {
        let state = State {
            free: (0..MAX_ADDED_FRAMES).rev().collect(),
            ..State::default()
        };
        Ok(Self {
            is_changed: AtomicBool::new(false),
            state: RwLock::new(state),
            pool: Pool::new(MAX_ADDED_FRAMES)?,
            end: 1 << u32::from(address_bits.clamp(12, 64)).saturating_sub(12),
        })
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Locks the changes for reading; `None` until the first change.
    pub(crate) fn changes(&self) -> Option<RwLockReadGuard<'_, State>> {
        let read = || self.state.read().unwrap_or_else(PoisonError::into_inner);
        self.is_changed.load(SeqCst).then(read)
    }

    /// Gives a machine the frames added so far, and from now on each that is added later. It uses
    /// the machine's memory slots from `first_slot` on.
    ///
    /// The machine must keep this RAM alive for as long as it exists.
    pub(crate) fn attach(&self, machine: &Arc<VmFd>, first_slot: u32) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.machines.retain(|(fd, _)| fd.strong_count() > 0);
        for (&gfn, &page) in &state.added {
            slots::show_page(machine, &self.pool, first_slot, page, gfn)?;
        }
        state.machines.push((Arc::downgrade(machine), first_slot));
        Ok(())
    }

    /// Refuses every later access to frames that have lost their pages.
    pub(crate) fn lose(&self, gfns: Range<u64>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.lost.push(gfns);
        self.is_changed.store(true, SeqCst);
    }

    /// Gives pages to frames. `ram` is the memory mapped at creation; `zero_frames` makes its pages
    /// read as zeros.
    pub(crate) fn add(
        &self,
        gfns: Range<u64>,
        ram: &impl GuestMemory,
        zero_frames: impl Fn(Range<u64>) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.check(&state, gfns.clone(), ram, |gfn| {
            Err(FrameError::Present { gfn })
        })?;
        self.is_changed.store(true, SeqCst);
        for run in state.runs(ram, gfns.clone(), FrameState::Removed) {
            zero_frames(run)?;
        }
        for (done, gfn) in gfns.clone().enumerate() {
            if state.frame_state(ram, gfn) == FrameState::Hole
                && let Err(source) = state.show(&self.pool, gfn)
            {
                for shown in gfns.clone().take(done) {
                    // KVM has just accepted this page, so it deletes the slot too. If it did not,
                    // the frame would keep its page.
                    let _ = state.hide(&self.pool, shown);
                }
                return Err(FrameError::from(Refused { gfn, source }));
            }
        }
        gfns.for_each(|gfn| state.removed.set(gfn, false));
        Ok(())
    }

    /// Removes the pages of frames. `zero_frames` returns the pages of RAM to the host.
    pub(crate) fn remove(
        &self,
        gfns: Range<u64>,
        ram: &impl GuestMemory,
        zero_frames: impl Fn(Range<u64>) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for gfn in gfns.clone() {
            if matches!(
                state.frame_state(ram, gfn),
                FrameState::Removed | FrameState::Lost | FrameState::Hole
            ) {
                return Err(FrameError::Absent { gfn });
            }
        }
        self.is_changed.store(true, SeqCst);
        for run in state.runs(ram, gfns.clone(), FrameState::Ram) {
            run.clone().for_each(|gfn| state.removed.set(gfn, true));
            zero_frames(run)?;
        }
        for gfn in gfns {
            let hidden = state.hide(&self.pool, gfn);
            hidden.map_err(|source| FrameError::from(Refused { gfn, source }))?;
        }
        Ok(())
    }

    /// Tells whether all frames without a page could get one.
    pub(crate) fn check_add(
        &self,
        gfns: Range<u64>,
        ram: &impl GuestMemory,
    ) -> Result<(), FrameError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        self.check(&state, gfns, ram, |_| Ok(()))
    }

    /// Checks that frames can get pages; `present` decides about those that have one.
    fn check(
        &self,
        state: &State,
        gfns: Range<u64>,
        ram: &impl GuestMemory,
        present: impl Fn(u64) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let mut holes: usize = 0;
        for gfn in gfns {
            match state.frame_state(ram, gfn) {
                FrameState::Lost => return Err(FrameError::Backend { gfn }),
                FrameState::Removed => continue,
                FrameState::Hole => self.check_reach(gfn)?,
                FrameState::Ram | FrameState::Added(_) => {
                    present(gfn)?;
                    continue;
                }
            }
            holes = holes.saturating_add(1);
            if holes > state.free.len() {
                let limit = MAX_ADDED_FRAMES.into();
                return Err(FrameError::Exhausted { limit });
            }
        }
        Ok(())
    }

    /// Refuses a frame that cannot have a page.
    fn check_reach(&self, gfn: u64) -> Result<(), FrameError> {
        let private = IDENTITY_MAP_AT.0 / PAGE_SIZE;
        let private_end = private.saturating_add(KVM_PRIVATE_BYTES / PAGE_SIZE);
        if gfn >= self.end || gfn == LOCAL_APIC || (private..private_end).contains(&gfn) {
            return Err(FrameError::OutOfReach { gfn });
        }
        Ok(())
    }
}

impl State {
    /// Returns what backs a frame.
    pub(crate) fn frame_state(&self, ram: &impl GuestMemory, gfn: u64) -> FrameState {
        if self.lost.iter().any(|gfns| gfns.contains(&gfn)) {
            return FrameState::Lost;
        }
        if self.removed.has(gfn) {
            return FrameState::Removed;
        }
        if let Some(&page) = self.added.get(&gfn) {
            return FrameState::Added(page);
        }
        let at = gfn.checked_mul(PAGE_SIZE).map(Gpa);
        match at {
            Some(at) if ram.is_ram(at, PAGE_SIZE) => FrameState::Ram,
            _ => FrameState::Hole,
        }
    }

    /// Returns the runs of consecutive frames of one kind.
    fn runs(&self, ram: &impl GuestMemory, gfns: Range<u64>, kind: FrameState) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for gfn in gfns.filter(|&gfn| self.frame_state(ram, gfn) == kind) {
            let next = gfn.saturating_add(1);
            match runs.last_mut() {
                Some(run) if run.end == gfn => run.end = next,
                _ => runs.push(gfn..next),
            }
        }
        runs
    }

    /// Puts a zeroed page of the pool at a frame, in every machine or, on error, in none.
    fn show(&mut self, pool: &Pool, gfn: u64) -> io::Result<()> {
        let Some(&page) = self.free.last() else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        pool.clear(page)?;
        let mut shown: Vec<(Arc<VmFd>, u32)> = Vec::new();
        for (machine, first_slot) in self.live_machines() {
            if let Err(error) = slots::show_page(&machine, pool, first_slot, page, gfn) {
                for (machine, first_slot) in shown {
                    slots::hide_page(&machine, first_slot, page)?;
                }
                return Err(error);
            }
            shown.push((machine, first_slot));
        }
        self.free.pop();
        self.added.insert(gfn, page);
        Ok(())
    }

    /// Removes the page of the pool from a frame, if the frame has one.
    fn hide(&mut self, pool: &Pool, gfn: u64) -> io::Result<()> {
        let Some(&page) = self.added.get(&gfn) else {
            return Ok(());
        };
        for (machine, first_slot) in self.live_machines() {
            slots::hide_page(&machine, first_slot, page)?;
        }
        self.added.remove(&gfn);
        self.free.push(page);
        pool.clear(page)
    }

    fn live_machines(&self) -> Vec<(Arc<VmFd>, u32)> {
        let machines = self.machines.iter();
        let living = machines.filter_map(|(fd, first_slot)| Some((fd.upgrade()?, *first_slot)));
        living.collect()
    }
}

/// One bit for each removed frame of RAM. Chunks without a set bit are not stored, so the bits use
/// at most 1/32768 of the size of RAM.
#[derive(Default)]
struct Removed(BTreeMap<u64, Box<[u64; CHUNK_WORDS]>>);

impl Removed {
    fn has(&self, gfn: u64) -> bool {
        let (chunk, word, bit) = place(gfn);
        let words = self.0.get(&chunk);
        words
            .and_then(|words| words.get(word))
            .is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, gfn: u64, is_removed: bool) {
        let (chunk, word, bit) = place(gfn);
        if is_removed {
            let words = self
                .0
                .entry(chunk)
                .or_insert_with(|| Box::new([0; CHUNK_WORDS]));
            words
                .get_mut(word)
                .into_iter()
                .for_each(|word| *word |= bit);
        } else if let Some(words) = self.0.get_mut(&chunk) {
            words
                .get_mut(word)
                .into_iter()
                .for_each(|word| *word &= !bit);
            if words.iter().all(|word| *word == 0) {
                self.0.remove(&chunk);
            }
        }
    }
}

/// Returns the chunk that holds a frame's bit, the word in it, and the bit.
fn place(gfn: u64) -> (u64, usize, u64) {
    let word = usize::try_from(gfn / 64).unwrap_or(usize::MAX) % CHUNK_WORDS;
    (gfn / CHUNK_FRAMES, word, 1 << (gfn % 64))
}

/// Replaces the address of an error, which is one of the pool, by the guest's address.
pub(crate) const fn error_at(error: MemoryError, at: Gpa) -> MemoryError {
    match error {
        MemoryError::Misaligned { size_bytes, .. } => MemoryError::Misaligned { at, size_bytes },
        _ => MemoryError::Backend { at },
    }
}

/// The frame that the host refused, and its reason.
struct Refused {
    gfn: u64,
    source: io::Error,
}

impl From<Refused> for FrameError {
    fn from(refused: Refused) -> Self {
        // The frame lies in a memory slot that KVM has made for itself.
        if refused.source.raw_os_error() == Some(libc::EEXIST) {
            return Self::OutOfReach { gfn: refused.gfn };
        }
        Self::Backend { gfn: refused.gfn }
    }
}

/// The frame of the local APICs.
const LOCAL_APIC: u64 = 0xFEE0_0000 / PAGE_SIZE;

const CHUNK_WORDS: usize = 64;
const CHUNK_FRAMES: u64 = 64 * CHUNK_WORDS as u64;
