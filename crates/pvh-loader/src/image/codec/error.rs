//! Why a packed stream cannot be unpacked.

use std::io;

/// Why a packed stream cannot be unpacked. Offsets count from its first byte.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The crate was built without the decoder.
    #[error("this program was built without the decoder (feature `{feature}` of pvh-loader)")]
    NotBuilt {
        /// The feature that builds it.
        feature: &'static str,
    },
    /// The stream ends before its content does.
    #[error("the stream ends too early, at offset {offset:#x}")]
    Truncated {
        /// Length of the stream.
        offset: u64,
    },
    /// The decoder found an error in the stream.
    #[error("the stream is damaged near offset {offset:#x}")]
    Corrupt {
        /// How many bytes the decoder had read.
        offset: u64,
        /// The decoder's reason.
        #[source]
        source: io::Error,
    },
    /// The content is longer than [`max_unpacked_bytes`](crate::image::Limits::max_unpacked_bytes).
    #[error("the content is longer than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The length stated after the stream is wrong.
    #[error("the content has {unpacked_bytes} bytes, but its trailer says {stated_bytes}")]
    WrongLength {
        /// The length that the trailer states.
        stated_bytes: u32,
        /// The length of the content.
        unpacked_bytes: u64,
    },
    /// More bytes follow the stream.
    #[error("{len_bytes} bytes at offset {offset:#x} follow the end of the stream")]
    TrailingBytes {
        /// Where the stream ended.
        offset: u64,
        /// How many bytes follow.
        len_bytes: u64,
    },
    /// The host has too little memory.
    #[error("not enough host memory for {len_bytes} unpacked bytes")]
    NoMemory {
        /// The length asked for.
        len_bytes: u64,
    },
}
