//! Memory whose frames come and go.

use core::ops::Range;

use crate::GuestMemory;

/// Guest memory whose layout the guest may change while it runs, by frames of 4096 bytes.
///
/// A frame's number is its address divided by 4096. A frame that was removed is no RAM, whether it
/// was RAM from the beginning or was added: [`GuestMemory::is_ram`] is false for it and accesses
/// are refused. What it held is gone, and a page that is added reads as zeros.
///
/// Accesses that run at the same time, by other threads or by the guest, see the frame before or
/// after the change. A backend may be unable to remove RAM that a running guest began with; then it
/// answers an error.
pub trait Frames: GuestMemory {
    /// Makes zeroed pages at frames that have none.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; on an error, nothing is added.
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError>;

    /// Removes the pages of frames, with their contents.
    ///
    /// # Errors
    ///
    /// [`FrameError::Absent`] if any frame has no page, and none is removed then.
    /// [`FrameError::Backend`], when the host fails half-way: those before the one it names are
    /// gone.
    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError>;

    /// Tells whether every frame of a range that has no page could get one now.
    ///
    /// Nothing is changed, and other threads may use up the pages before the caller adds them. A
    /// backend that cannot tell keeps this default, which says yes.
    ///
    /// # Errors
    ///
    /// As [`add_frames`](Self::add_frames), but never [`FrameError::Present`].
    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let _ = gfns;
        Ok(())
    }

    /// Tells how many frames, from the start of a range on, can be added or removed in one step.
    ///
    /// A caller that holds a lock meanwhile does one step at a time. By default the whole range is
    /// one step.
    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        FrameStep {
            frames: gfns.end.saturating_sub(gfns.start),
            takes_slot: false,
        }
    }

    /// Makes a zeroed page at a frame that has none.
    ///
    /// # Errors
    ///
    /// As [`add_frames`](Self::add_frames).
    fn add_frame(&self, gfn: u64) -> Result<(), FrameError> {
        self.add_frames(gfn..gfn.saturating_add(1))
    }

    /// Removes the page of a frame, with its contents.
    ///
    /// # Errors
    ///
    /// As [`remove_frames`](Self::remove_frames).
    fn remove_frame(&self, gfn: u64) -> Result<(), FrameError> {
        self.remove_frames(gfn..gfn.saturating_add(1))
    }
}

/// A reference to such memory is such memory too.
impl<M: Frames + ?Sized> Frames for &M {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        (**self).add_frames(gfns)
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        (**self).remove_frames(gfns)
    }

    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        (**self).check_add(gfns)
    }

    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        (**self).next_step(gfns)
    }
}

/// One step of a change of frames; see [`Frames::next_step`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a length, and what it costs")]
pub struct FrameStep {
    /// How many frames it covers; 0 for an empty range only.
    pub frames: u64,
    /// Whether it changes the host's memory slots, which takes milliseconds on some hosts. Such a
    /// step covers one frame.
    pub takes_slot: bool,
}

/// Why frames of guest memory were not added or removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// There is a page already.
    #[error("frame {gfn:#x} already has a page")]
    Present {
        /// The first such frame.
        gfn: u64,
    },
    /// There is no whole page to remove.
    #[error("frame {gfn:#x} has no page")]
    Absent {
        /// The first such frame.
        gfn: u64,
    },
    /// The guest cannot address the frame.
    #[error("frame {gfn:#x} is beyond the guest's address space")]
    OutOfReach {
        /// The first such frame.
        gfn: u64,
    },
    /// The limit of pages outside the RAM that the guest began with is reached.
    #[error("all {limit} pages for frames outside RAM are in use")]
    Exhausted {
        /// How many there can be.
        limit: u64,
    },
    /// The backend itself failed.
    #[error("the memory backend failed at frame {gfn:#x}")]
    Backend {
        /// Where it failed.
        gfn: u64,
    },
}
