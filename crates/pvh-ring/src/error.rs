//! Why a ring cannot be used.

use pvh_abi::Gpa;
use pvh_memory::MemoryError;

/// Why a back end cannot attach to a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The number of pages is 0, above 16, or not a power of two.
    #[error("a ring of {pages} pages is refused: 1, 2, 4, 8 or 16 are allowed")]
    Pages {
        /// How many pages were given.
        pages: usize,
    },
    /// A page does not begin at a multiple of 4096.
    #[error("ring page {index} at {at} does not begin at a multiple of 4096")]
    Misaligned {
        /// Which page, from 0.
        index: usize,
        /// Its address.
        at: Gpa,
    },
    /// The slot size is 0 or leaves no room for one slot.
    #[error("a slot of {slot_bytes} bytes does not fit into the ring")]
    Slot {
        /// The slot size that was asked for.
        slot_bytes: u32,
    },
    /// The indices or the pages are unusable.
    #[error("the ring cannot be used")]
    Ring(#[source] RingError),
}

/// Why an access to a ring failed.
///
/// After [`Overflow`](Self::Overflow) and [`Memory`](Self::Memory) the ring is not usable any more:
/// the back end disconnects, and the front end has to connect anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The front end's request index is further ahead than the ring has slots.
    #[error(
        "the request index {req_prod:#x} is more than {slots} slots ahead of the responses {rsp_prod:#x}"
    )]
    Overflow {
        /// The front end's index.
        req_prod: u32,
        /// The back end's index of responses.
        rsp_prod: u32,
        /// How many slots the ring has.
        slots: u32,
    },
    /// A response was given although every request has been answered.
    #[error("there is no request left to answer")]
    NothingToAnswer,
    /// A ring page is not guest RAM.
    #[error("a ring page cannot be reached")]
    Memory(#[source] MemoryError),
}

impl From<MemoryError> for RingError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}
