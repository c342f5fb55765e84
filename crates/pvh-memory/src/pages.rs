//! Frames that come and go over any guest memory.

use alloc::{boxed::Box, vec::Vec};
use core::{
    ops::Range as Span,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use pvh_abi::{Gpa, address::PAGE_SIZE};

#[cfg(feature = "std")]
use crate::{FileRange, FillError, MapError};
use crate::{FrameError, FrameStep, Frames, GuestMemory, MemoryError, WordOp};

/// Guest memory whose frames come and go, over a memory whose layout is fixed.
///
/// A domain needs [`Frames`]: its guest adds pages in holes, and gives RAM back. This wrapper keeps
/// one bit for each such frame, so that any [`GuestMemory`] serves, for example the regions of
/// another hypervisor. The wrapped memory has to be RAM at *every* frame that may ever have a page:
/// the guest's RAM, whose frames have a page at first, and windows, whose frames have none. The
/// hypervisor gives the guest both, once, before it runs; no memory slot changes after that.
///
/// A frame outside both keeps what the wrapped memory says: it can be neither added nor removed.
///
/// # Cost
///
/// One bit a frame, allocated here: 32 MiB for 1 TiB. A window takes as much host memory as its
/// frames were written. An access reads the bits of its frames, and takes no lock. A change zeroes
/// its frames in the wrapped memory; [`next_step`](Frames::next_step) covers at most 2 MiB.
///
/// A removed frame stays mapped for the guest: a guest that reads one sees zeros, and what the guest
/// writes there is zeroed when the frame is added again. No host memory is given back.
#[derive(Debug)]
pub struct Pages<M> {
    memory: M,
    /// By frame, none empty, none overlapping.
    spans: Vec<Bits>,
}

/// Why memory was not wrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// The wrapped memory has no RAM at some frame of the range.
    #[error("frames {first:#x} to {last:#x} are not all RAM in the wrapped memory")]
    NotRam {
        /// The first frame of the range.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// Two ranges share a frame.
    #[error("frame {gfn:#x} is in two ranges")]
    Overlap {
        /// The first such frame.
        gfn: u64,
    },
    /// The host has no memory for the bits of the range.
    #[error("no host memory for the bits of frames {first:#x} to {last:#x}")]
    NoMemory {
        /// The first frame of the range.
        first: u64,
        /// The last one.
        last: u64,
    },
}

/// Which frames of a range have a page: one bit each.
#[derive(Debug)]
struct Bits {
    gfns: Span<u64>,
    words: Box<[AtomicU64]>,
    is_window: bool,
}

impl<M: GuestMemory> Pages<M> {
    /// Wraps `memory`. The frames of `ram` have a page at first; those of `windows` have none until
    /// the guest adds them. Empty ranges are skipped.
    ///
    /// # Errors
    ///
    /// [`PagesError`], if `memory` is not RAM at each of these frames, if ranges overlap, or if the
    /// host has no memory for the bits.
    pub fn new(memory: M, ram: &[Span<u64>], windows: &[Span<u64>]) -> Result<Self, PagesError> {
        let ram = ram.iter().map(|gfns| (gfns, false));
        let windows = windows.iter().map(|gfns| (gfns, true));
        let mut wanted: Vec<_> = ram
            .chain(windows)
            .filter(|(gfns, _)| !gfns.is_empty())
            .collect();
        wanted.sort_unstable_by_key(|(gfns, _)| gfns.start);
        let mut spans: Vec<Bits> = Vec::with_capacity(wanted.len());
        for (gfns, is_window) in wanted {
            if spans.last().is_some_and(|last| gfns.start < last.gfns.end) {
                return Err(PagesError::Overlap { gfn: gfns.start });
            }
            let (first, last) = (gfns.start, gfns.end.saturating_sub(1));
            if !bytes(gfns).is_some_and(|(at, len_bytes)| memory.is_ram(at, len_bytes)) {
                return Err(PagesError::NotRam { first, last });
            }
            let bits = Bits::new(gfns.clone(), is_window);
            spans.push(bits.ok_or(PagesError::NoMemory { first, last })?);
        }
        Ok(Self { memory, spans })
    }

    /// Returns the wrapped memory, in which every frame is RAM.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the wrapped memory.
    #[must_use]
    pub fn into_memory(self) -> M {
        self.memory
    }

    fn span(&self, gfn: u64) -> Option<&Bits> {
        let after = self.spans.partition_point(|span| span.gfns.start <= gfn);
        let span = self.spans.get(after.checked_sub(1)?)?;
        span.gfns.contains(&gfn).then_some(span)
    }

    /// Tells whether no frame of a range lacks its page; `at` and the end are in the address space.
    fn has_pages(&self, at: Gpa, len_bytes: u64) -> bool {
        let Some(reach) = len_bytes.checked_sub(1) else {
            return true;
        };
        let first = at.0 / PAGE_SIZE;
        let end = (at.0.saturating_add(reach) / PAGE_SIZE).saturating_add(1);
        let before = self.spans.partition_point(|span| span.gfns.end <= first);
        let spans = self.spans.iter().skip(before);
        let mut spans = spans.take_while(|span| span.gfns.start < end);
        spans.all(|span| {
            let (from, to) = (first.max(span.gfns.start), end.min(span.gfns.end));
            span.has_all(from..to)
        })
    }

    fn check(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        match self.has_pages(at, len_bytes) {
            true => Ok(()),
            false => Err(MemoryError::NotRam { at, len_bytes }),
        }
    }

    fn check_frames(&self, gfns: &Span<u64>, is_there: bool) -> Result<(), FrameError> {
        for gfn in gfns.clone() {
            let Some(span) = self.span(gfn) else {
                return Err(self.refuse_outside(gfn, is_there));
            };
            match (span.has(gfn), is_there) {
                (true, false) => return Err(FrameError::Present { gfn }),
                (false, true) => return Err(FrameError::Absent { gfn }),
                _ => {}
            }
        }
        Ok(())
    }

    /// A frame outside the ranges never changes.
    fn refuse_outside(&self, gfn: u64, is_removal: bool) -> FrameError {
        let Some((at, len_bytes)) = bytes(&(gfn..gfn.saturating_add(1))) else {
            return FrameError::OutOfReach { gfn };
        };
        if is_removal {
            return FrameError::Absent { gfn };
        }
        if self.memory.is_ram(at, len_bytes) {
            return FrameError::Present { gfn };
        }
        let windows = self.spans.iter().filter(|span| span.is_window);
        let limit = windows.map(|span| span.gfns.end.saturating_sub(span.gfns.start));
        FrameError::Exhausted { limit: limit.sum() }
    }

    fn clear(&self, gfn: u64) -> Result<(), FrameError> {
        let zeroed = bytes(&(gfn..gfn.saturating_add(1)))
            .and_then(|(at, len_bytes)| self.memory.zero(at, len_bytes).ok());
        zeroed.ok_or(FrameError::Backend { gfn })
    }
}

impl Bits {
    /// `None` when the host has no memory for them.
    fn new(gfns: Span<u64>, is_window: bool) -> Option<Self> {
        let last = gfns.end.checked_sub(gfns.start)?.checked_sub(1)?;
        let count = usize::try_from(last / BITS).ok()?.checked_add(1)?;
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        let first = if is_window { 0 } else { u64::MAX };
        words.resize_with(count, || AtomicU64::new(first));
        Some(Self {
            gfns,
            words: words.into_boxed_slice(),
            is_window,
        })
    }

    /// The word of a frame of the range, and its bit there.
    fn bit(&self, gfn: u64) -> Option<(&AtomicU64, u64)> {
        let index = gfn.checked_sub(self.gfns.start)?;
        let word = self.words.get(usize::try_from(index / BITS).ok()?)?;
        Some((word, 1 << (index % BITS)))
    }

    fn has(&self, gfn: u64) -> bool {
        let bit = self.bit(gfn);
        bit.is_some_and(|(word, bit)| word.load(SeqCst) & bit != 0)
    }

    fn set(&self, gfn: u64, is_there: bool) {
        match self.bit(gfn) {
            Some((word, bit)) if is_there => word.fetch_or(bit, SeqCst),
            Some((word, bit)) => word.fetch_and(!bit, SeqCst),
            None => 0,
        };
    }

    /// Looks at whole words where it can.
    fn has_all(&self, gfns: Span<u64>) -> bool {
        let mut gfn = gfns.start;
        while gfn < gfns.end {
            let Some((word, bit)) = self.bit(gfn) else {
                return false;
            };
            let left = gfns.end.saturating_sub(gfn);
            let in_word = BITS.saturating_sub(u64::from(bit.trailing_zeros()));
            let step = left.min(in_word);
            let ones = u64::MAX.wrapping_shr(64_u32.saturating_sub(step.try_into().unwrap_or(64)));
            let mask = ones.wrapping_shl(bit.trailing_zeros());
            if word.load(SeqCst) & mask != mask {
                return false;
            }
            gfn = gfn.saturating_add(step);
        }
        true
    }
}

impl<M: GuestMemory> GuestMemory for Pages<M> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.memory.is_ram(at, len_bytes) && self.has_pages(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.check(at, buf.len() as u64)?;
        self.memory.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.check(at, bytes.len() as u64)?;
        self.memory.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        MemoryError::check_aligned(at, size_of::<u32>())?;
        self.check(at, size_of::<u32>() as u64)?;
        self.memory.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        MemoryError::check_aligned(at, size_of::<u64>())?;
        self.check(at, size_of::<u64>() as u64)?;
        self.memory.atomic_u64(at, op)
    }

    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        self.check(at, len_bytes)?;
        self.memory.zero(at, len_bytes)
    }

    #[cfg(feature = "std")]
    fn fill(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        self.check(at, range.len_bytes).map_err(FillError::Memory)?;
        self.memory.fill(at, range)
    }

    #[cfg(feature = "std")]
    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        let len_bytes = range.len_bytes;
        if !self.has_pages(at, len_bytes) {
            return Err(MapError::NotRam { at, len_bytes });
        }
        self.memory.map_file(at, range)
    }
}

impl<M: GuestMemory> Frames for Pages<M> {
    fn add_frames(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        self.check_frames(&gfns, false)?;
        for gfn in gfns.clone() {
            self.clear(gfn)?;
        }
        for gfn in gfns {
            if let Some(span) = self.span(gfn) {
                span.set(gfn, true);
            }
        }
        Ok(())
    }

    fn remove_frames(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        self.check_frames(&gfns, true)?;
        for gfn in gfns {
            self.clear(gfn)?;
            if let Some(span) = self.span(gfn) {
                span.set(gfn, false);
            }
        }
        Ok(())
    }

    fn check_add(&self, gfns: Span<u64>) -> Result<(), FrameError> {
        for gfn in gfns {
            if self.span(gfn).is_some() {
                continue;
            }
            match self.refuse_outside(gfn, false) {
                FrameError::Present { .. } => {}
                refused => return Err(refused),
            }
        }
        Ok(())
    }

    /// No step takes a memory slot; one covers 2 MiB at most, which is what a change zeroes.
    fn next_step(&self, gfns: Span<u64>) -> FrameStep {
        let frames = gfns.end.saturating_sub(gfns.start);
        let most = self.span(gfns.start).map_or(1, |span| {
            let left = span.gfns.end.saturating_sub(gfns.start);
            left.min(STEP_FRAMES)
        });
        FrameStep {
            frames: frames.min(most),
            takes_slot: false,
        }
    }
}

/// The bytes of frames: where they begin, and how many there are.
fn bytes(gfns: &Span<u64>) -> Option<(Gpa, u64)> {
    let count = gfns.end.checked_sub(gfns.start)?;
    let at = gfns.start.checked_mul(PAGE_SIZE)?;
    let len_bytes = count.checked_mul(PAGE_SIZE)?;
    // The last byte has to be in the address space too.
    at.checked_add(len_bytes.saturating_sub(1))?;
    Some((Gpa(at), len_bytes))
}

const BITS: u64 = 64;

/// How many frames a step zeroes at most: 2 MiB.
const STEP_FRAMES: u64 = 512;
