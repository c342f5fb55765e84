//! Why a packet is refused, and why a transmit ring cannot go on.

use pvh_ring::RingError;

/// Why a packet was refused. The guest has been answered `NETIF_RSP_ERROR`, and the ring goes on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal<E: core::error::Error + 'static> {
    /// A packet shorter than an Ethernet header.
    #[error("a packet of {len_bytes} bytes is shorter than an Ethernet header, which has 14 bytes")]
    TooShort {
        /// Its length.
        len_bytes: u16,
    },
    /// A packet of more requests than a front end may use.
    #[error("a packet of {slots} requests: at most 18 are allowed")]
    TooManySlots {
        /// How many it has.
        slots: usize,
    },
    /// A part that is longer than what the packet has left.
    #[error("part {index} has {size} bytes, but only {left} bytes of the packet are left")]
    PartTooLong {
        /// Which part, from 0.
        index: usize,
        /// Its length.
        size: u16,
        /// What the packet has left.
        left: u16,
    },
    /// A change of the multicast filter, which is not offered.
    #[error("multicast filters are not offered")]
    Multicast,
    /// The guest has not granted a page.
    #[error("part {index}: grant {reference} cannot be used")]
    Grant {
        /// Which part, from 0.
        index: usize,
        /// The grant reference.
        reference: u32,
        /// Why not.
        #[source]
        source: E,
    },
}

/// Why the ring cannot go on. The back end disconnects, as Linux's does: what follows in the ring
/// has no meaning that both ends would agree on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransmitError {
    /// The ring itself.
    #[error("the transmit ring cannot be used")]
    Ring(#[source] RingError),
    /// The guest published a packet before its last request or extra-info.
    #[error("a packet ends in the middle, after {slots} requests")]
    Truncated {
        /// How many requests there are.
        slots: usize,
    },
    /// A packet that does not end.
    #[error("a packet has more than 20 requests")]
    Endless,
    /// A part that does not lie inside its page.
    #[error("a part of {size} bytes at offset {offset} does not lie inside its page")]
    CrossesPage {
        /// Where it begins.
        offset: u16,
        /// Its length.
        size: u16,
    },
    /// An extra-info of a type that netif.h does not have.
    #[error("extra-info of unknown type {kind}")]
    ExtraType {
        /// The type.
        kind: u8,
    },
    /// A large packet that cannot be cut up.
    #[error("segmentation of type {kind} into parts of {segment_bytes} bytes is impossible")]
    Gso {
        /// The type.
        kind: u8,
        /// The size of the parts.
        segment_bytes: u16,
    },
}

impl From<RingError> for TransmitError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}
