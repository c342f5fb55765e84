//! Requests that have been checked, and what comes of them.

use pvh_abi::Gpa;

use crate::Operation;

/// A request of the guest's that may be carried out.
///
/// It holds the granted pages it needs until it is answered with
/// [`Queue::answer`](crate::Queue::answer). A request that is dropped instead leaves its slot
/// unanswered, and the guest waits for it: answer each one, at the latest when the device goes
/// away.
#[derive(Debug)]
#[must_use = "the guest waits for an answer"]
pub struct Request<P> {
    pub(crate) id: u64,
    pub(crate) operation: Operation,
    /// What is to be done.
    pub action: Action<P>,
}

/// What a request asks for.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "blkif.h has these")]
pub enum Action<P> {
    /// Copy from the disk into the guest's pages.
    Read(Io<P>),
    /// Copy from the guest's pages to the disk.
    Write(Io<P>),
    /// Make every write that was answered before durable; then, if there is one, do the write.
    Flush(Option<Io<P>>),
    /// Give an area of the disk back.
    Discard {
        /// Which area.
        area: Area,
        /// Whether every copy of the data has to be unrecoverable before the answer.
        is_secure: bool,
    },
}

/// An area of the disk, inside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "an offset and a length")]
pub struct Area {
    /// Where it begins, in bytes; a multiple of 512.
    pub offset: u64,
    /// How long it is, in bytes; a multiple of 512.
    pub len_bytes: u64,
}

/// Data that goes between the disk and the guest's pages.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "an area and its pages")]
pub struct Io<P> {
    /// Where on the disk, and how much: as many bytes as the pieces have together.
    pub area: Area,
    /// Where in guest memory, in the order of the disk; 1 to 256 pieces.
    pub pieces: Vec<Piece<P>>,
}

/// A part of a granted page.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a page and a range in it")]
pub struct Piece<P> {
    /// The page, in use as long as this lives.
    pub page: P,
    /// Where the data begins in guest memory.
    pub at: Gpa,
    /// How long it is, in bytes: 512 to 4096, a multiple of 512.
    pub len_bytes: u32,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[doc(alias = "BLKIF_RSP_OKAY")]
#[expect(clippy::exhaustive_enums, reason = "blkif.h has these three")]
pub enum Status {
    /// It is done.
    Okay,
    /// It failed; the guest sees an I/O error.
    Error,
    /// The operation is not supported; the guest does not try it again.
    NotSupported,
}

impl Status {
    /// The number of a response.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Okay => 0,
            Self::Error => -1,
            Self::NotSupported => -2,
        }
    }
}

/// Why a request was refused. The guest has been answered already.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal<E: core::error::Error + 'static> {
    /// An operation that is not offered; the guest gets `BLKIF_RSP_EOPNOTSUPP`. The guest gets
    /// `BLKIF_RSP_ERROR` for every other reason.
    #[error("block operation {} is not supported", .operation.0)]
    Unsupported {
        /// Which one.
        operation: Operation,
    },
    /// An indirect request that is neither a read nor a write.
    #[error("an indirect request cannot hold operation {}", .operation.0)]
    Indirect {
        /// What it is.
        operation: Operation,
    },
    /// No segments where some are needed, or more than were offered.
    #[error("a request has {count} segments: 1 to {limit} are allowed")]
    SegmentCount {
        /// How many the request has.
        count: u16,
        /// The most that it may have.
        limit: u16,
    },
    /// A segment that ends before it begins or behind its page.
    #[error(
        "segment {index} has sectors {first} to {last}, which is no range of a page's sectors 0 to 7"
    )]
    Segment {
        /// Which segment, from 0.
        index: usize,
        /// Its first sector.
        first: u8,
        /// Its last sector.
        last: u8,
    },
    /// Sectors that the disk does not have.
    #[error("sectors {sector:#x} + {count:#x} are outside the disk of {disk:#x} sectors")]
    OutsideDisk {
        /// The first sector.
        sector: u64,
        /// How many.
        count: u64,
        /// How many the disk has.
        disk: u64,
    },
    /// A write, or a discard, to a disk that may only be read.
    #[error("the disk is read-only")]
    ReadOnly,
    /// A discard of nothing.
    #[error("a discard covers no sectors")]
    EmptyDiscard,
    /// The guest has not granted a page as it is needed.
    #[error("segment {index}: grant {reference} cannot be used")]
    Grant {
        /// Which segment, or which page of segments, from 0.
        index: usize,
        /// The grant reference.
        reference: u32,
        /// Why not.
        #[source]
        source: E,
    },
    /// A page of segments cannot be read.
    #[error("page {index} of the indirect segments cannot be read")]
    IndirectPage {
        /// Which page, from 0.
        index: usize,
        /// Why not.
        #[source]
        source: pvh_memory::MemoryError,
    },
}
