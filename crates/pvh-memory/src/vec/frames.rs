//! Frames of guest memory in vectors.

use alloc::{boxed::Box, vec::Vec};
use core::{
    iter,
    ops::Range as Span,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use pvh_abi::{Gpa, address::PAGE_SIZE};

use super::{Range, VecMemory};
use crate::{FrameError, FrameStep, Frames};

/// The frames of a range that were removed: one bit each, from the frame of the range's first byte
/// on.
#[derive(Debug)]
pub(super) struct Removed(Box<[AtomicU64]>);

impl Removed {
    /// None yet; `None` when the host cannot count them.
    pub(super) fn none(start: u64, last: u64) -> Option<Self> {
        let frames = (last / PAGE_SIZE).checked_sub(start / PAGE_SIZE)?;
        let words = usize::try_from(frames / BITS).ok()?.checked_add(1)?;
        let mut bits = Vec::new();
        bits.try_reserve_exact(words).ok()?;
        bits.resize_with(words, AtomicU64::default);
        Some(Self(bits.into_boxed_slice()))
    }

    /// The word of a frame, counted from the first one, and its bit there.
    fn bit(&self, index: u64) -> Option<(&AtomicU64, u64)> {
        let word = self.0.get(usize::try_from(index / BITS).ok()?)?;
        Some((word, 1 << (index % BITS)))
    }

    fn has(&self, index: u64) -> bool {
        self.bit(index)
            .is_some_and(|(word, bit)| word.load(SeqCst) & bit != 0)
    }

    fn set(&self, index: u64, is_removed: bool) {
        let Some((word, bit)) = self.bit(index) else {
            return;
        };
        if is_removed {
            word.fetch_or(bit, SeqCst);
        } else {
            word.fetch_and(!bit, SeqCst);
        }
    }
}

/// A page for a frame outside the ranges.
#[derive(Debug)]
pub(super) struct Spare {
    /// [`FREE`], or the frame it is at.
    gfn: AtomicU64,
    /// Its bytes, from address 0 on.
    page: Range,
}

/// Where a frame is.
enum Home<'memory> {
    /// Part of a range: its index there.
    Ram(&'memory Range, u64),
    /// A range covers some of its bytes only.
    Partial,
    Spare(&'memory Spare),
    Hole,
}

impl VecMemory {
    /// Gives the memory `count` pages for frames outside its ranges, see [`Frames`]; it begins
    /// without any.
    #[must_use]
    pub fn with_spare_frames(mut self, count: usize) -> Self {
        let page = || Range::zeroed(0, PAGE_SIZE.wrapping_sub(1));
        let spare = iter::repeat_with(page).take(count).flatten();
        let spare = spare.map(|page| Spare {
            gfn: AtomicU64::new(FREE),
            page,
        });
        self.spare = spare.collect();
        self
    }

    /// The range that has the byte at `at`, its address in there, and the last address of the frame
    /// there; `None` where there is no RAM.
    pub(super) fn piece(&self, at: u64) -> Option<(&Range, u64, u64)> {
        let gfn = at / PAGE_SIZE;
        match self.range_at(at) {
            Some(range) if range.removed.has(range.index(gfn)) => None,
            Some(range) => Some((range, at, range.last.min(at | PAGE_MASK))),
            None => {
                let spare = self.spare_at(gfn)?;
                Some((&spare.page, at & PAGE_MASK, PAGE_MASK))
            }
        }
    }

    fn range_at(&self, at: u64) -> Option<&Range> {
        let after = self.ranges.partition_point(|range| range.start <= at);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (at <= range.last).then_some(range)
    }

    fn spare_at(&self, gfn: u64) -> Option<&Spare> {
        let mut spare = self.spare.iter();
        spare.find(|spare| spare.gfn.load(SeqCst) == gfn)
    }

    fn home(&self, gfn: u64) -> Result<Home<'_>, FrameError> {
        let first = gfn.checked_mul(PAGE_SIZE);
        let first = first.ok_or(FrameError::OutOfReach { gfn })?;
        let last = first | PAGE_MASK;
        let touches = |range: &&Range| range.start <= last && first <= range.last;
        Ok(match self.ranges.iter().find(touches) {
            Some(range) if range.start <= first && last <= range.last => {
                Home::Ram(range, range.index(gfn))
            }
            Some(_) => Home::Partial,
            None => self.spare_at(gfn).map_or(Home::Hole, Home::Spare),
        })
    }
}

impl Range {
    /// Which frame of the range this is.
    const fn index(&self, gfn: u64) -> u64 {
        gfn.wrapping_sub(self.start / PAGE_SIZE)
    }
}

/// A frame in which a range begins or ends stays as it is: it cannot be removed, and no page can be
/// added there.
impl Frames for VecMemory {
    fn check_add(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        let free = self.spare.iter();
        let mut free = free.filter(|spare| spare.gfn.load(SeqCst) == FREE);
        for gfn in gfns {
            if matches!(self.home(gfn)?, Home::Hole) {
                let limit = self.spare.len() as u64;
                free.next().ok_or(FrameError::Exhausted { limit })?;
            }
        }
        Ok(())
    }

    /// A frame outside the ranges is one step, as it is where each takes a memory slot.
    fn next_step(&self, gfns: Span<u64>) -> FrameStep {
        let frames = gfns.end.saturating_sub(gfns.start);
        match self.home(gfns.start) {
            Ok(Home::Ram(range, _)) => {
                let in_range = (range.last / PAGE_SIZE).saturating_sub(gfns.start);
                FrameStep {
                    frames: frames.min(in_range.saturating_add(1)),
                    takes_slot: false,
                }
            }
            _ => FrameStep {
                frames: frames.min(1),
                takes_slot: true,
            },
        }
    }

    fn add_frames(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        let free = self.spare.iter();
        let mut free = free.filter(|spare| spare.gfn.load(SeqCst) == FREE);
        for gfn in gfns.clone() {
            match self.home(gfn)? {
                Home::Ram(range, index) if range.removed.has(index) => {}
                Home::Ram(..) | Home::Partial | Home::Spare(_) => {
                    return Err(FrameError::Present { gfn });
                }
                Home::Hole => {
                    let limit = self.spare.len() as u64;
                    free.next().ok_or(FrameError::Exhausted { limit })?;
                }
            }
        }
        self.is_changed.store(true, SeqCst);
        for gfn in gfns {
            match self.home(gfn)? {
                Home::Ram(range, index) => range.removed.set(index, false),
                _ => {
                    if let Some(spare) = self.spare_at(FREE) {
                        spare.page.clear(0, PAGE_MASK);
                        spare.gfn.store(gfn, SeqCst);
                    }
                }
            }
        }
        Ok(())
    }

    fn remove_frames(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        for gfn in gfns.clone() {
            match self.home(gfn)? {
                Home::Ram(range, index) if !range.removed.has(index) => {}
                Home::Spare(_) => {}
                _ => return Err(FrameError::Absent { gfn }),
            }
        }
        self.is_changed.store(true, SeqCst);
        for gfn in gfns {
            match self.home(gfn)? {
                Home::Ram(range, index) => {
                    range.removed.set(index, true);
                    let first = gfn.wrapping_mul(PAGE_SIZE);
                    range.clear(first, first | PAGE_MASK);
                }
                Home::Spare(spare) => spare.gfn.store(FREE, SeqCst),
                Home::Partial | Home::Hole => {}
            }
        }
        Ok(())
    }
}

impl Range {
    /// Zeroes whole words, from that of `first` to that of `last`.
    fn clear(&self, first: u64, last: u64) {
        let Some((words, _)) = self.from(first) else {
            return;
        };
        let count = (last / 8).wrapping_sub(first / 8).saturating_add(1);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for word in words.take(count) {
            word.store(0, Relaxed);
        }
    }
}

/// The address of a piece in what holds it, and its bytes there.
pub(super) type Piece<'memory> = (&'memory Range, u64, Span<usize>);

impl VecMemory {
    /// The pieces of an access, each in one frame or one range; a range that is not all RAM is
    /// refused before the first.
    pub(super) fn pieces(&self, at: Gpa, len: usize) -> Option<impl Iterator<Item = Piece<'_>>> {
        let walk = move || {
            let mut rest = Some((at.0, 0_usize)).filter(|_| len > 0);
            iter::from_fn(move || {
                let (here, done) = rest.take()?;
                let Some((range, inner, last)) = self.piece(here) else {
                    return Some(None);
                };
                let reach = usize::try_from(last.wrapping_sub(inner)).unwrap_or(usize::MAX);
                let end = done.saturating_add(reach).saturating_add(1).min(len);
                if end < len {
                    let step = end.wrapping_sub(done) as u64;
                    match here.checked_add(step) {
                        Some(next) => rest = Some((next, end)),
                        None => return Some(None),
                    }
                }
                Some(Some((range, inner, done..end)))
            })
        };
        walk()
            .all(|piece| piece.is_some())
            .then(|| walk().flatten())
    }
}

/// No frame has this number.
const FREE: u64 = u64::MAX;
const PAGE_MASK: u64 = PAGE_SIZE.wrapping_sub(1);
const BITS: u64 = 64;
