//! Adds, removes and accesses frames once the guest has changed some.

use std::{ops::Range, sync::Arc};

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{FrameError, FrameStep, Frames, MemoryError, VmMemory};
use vm_memory::GuestRegionMmap;

use super::GuestRam;
use crate::memory::frames::{FrameState, State};

/// One part of an access: the memory that holds it, its address there, and its bytes of the access.
type Piece<'ram> = (&'ram Memory, Gpa, Range<usize>);

type Memory = VmMemory<Arc<GuestRegionMmap>>;

/// A running guest can still access RAM that it has removed. It reads zeros there, and its writes
/// are lost when the frame gets a page again. Hiding removed RAM would need one memory slot for
/// each hole.
impl Frames for GuestRam {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let _access = self.gate.enter();
        let zero_frames = |run| self.zero_frames(run);
        self.frames().add(gfns, self.base(), zero_frames)
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let _access = self.gate.enter();
        let zero_frames = |run| self.zero_frames(run);
        self.frames().remove(gfns, self.base(), zero_frames)
    }

    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        self.frames().check_add(gfns, self.base())
    }

    /// RAM that was mapped at creation changes without a memory slot, as far as it reaches; every
    /// other frame takes one.
    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        let frames = gfns.end.saturating_sub(gfns.start);
        let in_ram = self.host_ranges().find_map(|(range, _)| {
            let first = range.start.0 / PAGE_SIZE;
            let end = first.saturating_add(range.len_bytes / PAGE_SIZE);
            (first..end)
                .contains(&gfns.start)
                .then(|| end.saturating_sub(gfns.start))
        });
        FrameStep {
            frames: frames.min(in_ram.unwrap_or(1)),
            takes_slot: in_ram.is_none(),
        }
    }
}

/// Access to memory whose frames have changed.
impl GuestRam {
    /// Tells whether every frame of a range has a page.
    pub(crate) fn has_pages(&self, changes: &State, at: Gpa, len_bytes: u64) -> bool {
        let Some(reach) = len_bytes.checked_sub(1) else {
            return true;
        };
        let Some(last) = at.checked_add(reach) else {
            return false;
        };
        let mut gfns = at.0 / PAGE_SIZE..=last.0 / PAGE_SIZE;
        gfns.all(|gfn| self.frame(changes, gfn).is_some())
    }

    /// Splits an access into parts, one for each frame.
    pub(crate) fn pieces<'ram>(
        &'ram self,
        changes: &'ram State,
        at: Gpa,
        len: usize,
    ) -> Result<impl Iterator<Item = Piece<'ram>>, MemoryError> {
        let len_bytes = u64::try_from(len).unwrap_or(u64::MAX);
        if !self.has_pages(changes, at, len_bytes) {
            return Err(MemoryError::NotRam { at, len_bytes });
        }
        let mut done = 0_usize;
        Ok(std::iter::from_fn(move || {
            let left = len.checked_sub(done).filter(|&left| left > 0)?;
            let here = at.checked_add(done as u64)?;
            let offset = here.0 % PAGE_SIZE;
            let (memory, frame) = self.frame(changes, here.0 / PAGE_SIZE)?;
            let room = usize::try_from(PAGE_SIZE.saturating_sub(offset)).unwrap_or(left);
            let start = done;
            done = done.saturating_add(room.min(left));
            Some((memory, frame.checked_add(offset)?, start..done))
        }))
    }

    /// Returns the memory that holds an aligned word, and the word's address there.
    pub(crate) fn word(
        &self,
        changes: &State,
        at: Gpa,
        size_bytes: u64,
    ) -> Result<(&Memory, Gpa), MemoryError> {
        if !at.is_aligned(size_bytes) {
            return Err(MemoryError::Misaligned { at, size_bytes });
        }
        let len_bytes = size_bytes;
        let not_ram = MemoryError::NotRam { at, len_bytes };
        let (memory, frame) = self.frame(changes, at.0 / PAGE_SIZE).ok_or(not_ram)?;
        let here = frame.checked_add(at.0 % PAGE_SIZE).ok_or(not_ram)?;
        Ok((memory, here))
    }

    /// Returns the memory that holds a frame, and the frame's address there.
    fn frame(&self, changes: &State, gfn: u64) -> Option<(&Memory, Gpa)> {
        match changes.frame_state(self.base(), gfn) {
            FrameState::Ram => Some((self.base(), Gpa(gfn.checked_mul(PAGE_SIZE)?))),
            FrameState::Added(page) => {
                let offset = u64::from(page).checked_mul(PAGE_SIZE)?;
                Some((self.frames().pool().memory(), Gpa(offset)))
            }
            FrameState::Removed | FrameState::Lost | FrameState::Hole => None,
        }
    }
}
