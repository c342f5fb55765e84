//! Why a packed stream cannot be unpacked.

use std::io;

/// Why a packed stream gave no kernel. Offsets count from the first packed byte.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream ends before its content does.
    #[error("it is cut short at offset {offset:#x}")]
    Truncated {
        /// Where the bytes end.
        offset: u64,
    },
    /// The decoder refuses the stream.
    #[error("it is damaged near offset {offset:#x}")]
    Corrupt {
        /// How far the decoder had read.
        offset: u64,
        /// The decoder's reason.
        #[source]
        source: io::Error,
    },
    /// The content is longer than [`Limits::max_unpacked_bytes`].
    #[error("it unpacks to more than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The length written after the stream is not that of the content.
    #[error("it unpacks to {unpacked_bytes} bytes where its trailer says {stated_bytes}")]
    WrongLength {
        /// The length the trailer gives.
        stated_bytes: u32,
        /// The length there is.
        unpacked_bytes: u64,
    },
    /// Bytes follow the stream that are neither its content nor its length.
    #[error("{len_bytes} bytes at offset {offset:#x} follow the end of the stream")]
    TrailingBytes {
        /// Where the stream ended.
        offset: u64,
        /// How many bytes follow.
        len_bytes: u64,
    },
    /// This host has not the memory for it.
    #[error("no memory for {len_bytes} unpacked bytes")]
    NoMemory {
        /// The length asked for.
        len_bytes: u64,
    },
}
