//! The compression formats of kernels. Each decoder works within the limits it is given.

mod error;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "lzo")]
mod lzo;
#[cfg(any(feature = "bzip2", feature = "gzip", feature = "xz"))]
mod stream;
#[cfg_attr(
    not(feature = "codecs"),
    allow(dead_code, reason = "each codec uses a part of it")
)]
mod target;
#[cfg(feature = "zstd")]
mod zstd;

pub use error::UnpackError;

use super::limits::Limits;
use target::{Target, to_u64};

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Codec {
    /// Not compressed: an ELF.
    Stored,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// LZMA with the header of the `.lzma` format.
    Lzma,
    /// xz, with or without the x86 filter.
    Xz,
    /// LZO1X in the format of `lzop`.
    Lzo,
    /// LZ4 in its legacy frame, the one Linux uses.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// Returns the codec that the first bytes of a payload name, or `None` for an unknown one.
    #[must_use]
    pub fn detect(head: &[u8]) -> Option<Self> {
        let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
        known.map(|(_, codec)| *codec)
    }

    /// Returns the feature of this crate that builds the decoder; `None` for what is not packed.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        match self {
            Self::Stored => None,
            Self::Gzip => Some("gzip"),
            Self::Bzip2 => Some("bzip2"),
            Self::Lzma | Self::Xz => Some("xz"),
            Self::Lzo => Some("lzo"),
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// Returns the name that the kernel's configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Unpacks all of `packed`.
///
/// A gzip stream may have several members and zeros after the last one, and nothing else may follow
/// it. The other streams may be followed by the four bytes of the length that the kernel's build
/// appends.
pub(crate) fn unpack(codec: Codec, packed: &[u8], limits: &Limits) -> Result<Vec<u8>, UnpackError> {
    let limit_bytes = limits.max_unpacked_bytes;
    let target = Target {
        packed,
        limit_bytes,
        expected_bytes: expected_bytes(codec, packed),
    };
    #[allow(
        unreachable_patterns,
        reason = "the last arm is for the codecs that were not built"
    )]
    let (unpacked, rest) = match codec {
        Codec::Stored => (target.copy()?, &[][..]),
        #[cfg(feature = "gzip")]
        Codec::Gzip => stream::gzip(&target)?,
        #[cfg(feature = "bzip2")]
        Codec::Bzip2 => stream::bzip2(&target)?,
        #[cfg(feature = "xz")]
        Codec::Lzma => stream::lzma(&target, limits.max_window_bytes)?,
        #[cfg(feature = "xz")]
        Codec::Xz => stream::xz(&target, limits.max_window_bytes)?,
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::unpack(&target, limits.max_window_bytes)?,
        #[cfg(feature = "lzo")]
        Codec::Lzo => lzo::unpack(&target)?,
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::unpack(&target)?,
        _ => {
            let feature = codec.feature().unwrap_or_default();
            return Err(UnpackError::NotBuilt { feature });
        }
    };
    check_rest(codec, &target, rest, &unpacked)?;
    Ok(unpacked)
}

/// Checks the bytes after the stream.
fn check_rest(
    codec: Codec,
    target: &Target<'_>,
    rest: &[u8],
    unpacked: &[u8],
) -> Result<(), UnpackError> {
    let unpacked_bytes = to_u64(unpacked.len());
    match <[u8; 4]>::try_from(rest) {
        Ok(word) if codec != Codec::Gzip => {
            let stated_bytes = u32::from_le_bytes(word);
            if u64::from(stated_bytes) == unpacked_bytes & u64::from(u32::MAX) {
                return Ok(());
            }
            Err(UnpackError::WrongLength {
                stated_bytes,
                unpacked_bytes,
            })
        }
        _ if rest.is_empty() => Ok(()),
        _ => {
            let len_bytes = to_u64(rest.len());
            Err(UnpackError::TrailingBytes {
                offset: target.offset_of(rest),
                len_bytes,
            })
        }
    }
}

/// The length that the last four bytes state, capped so that a wrong one costs nothing.
fn expected_bytes(codec: Codec, packed: &[u8]) -> usize {
    let stated = match packed.last_chunk::<4>() {
        Some(word) if codec != Codec::Stored => u32::from_le_bytes(*word),
        _ => 0,
    };
    let plausible = packed.len().saturating_mul(PLAUSIBLE_RATIO);
    usize::try_from(stated).map_or(plausible, |stated| stated.min(plausible))
}

const MAGICS: [(&[u8], Codec); 8] = [
    (b"\x7fELF", Codec::Stored),
    (&[0x1f, 0x8b], Codec::Gzip),
    (b"BZh", Codec::Bzip2),
    (&[0x5d, 0x00], Codec::Lzma),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Codec::Xz),
    (b"\x89LZO", Codec::Lzo),
    (&[0x02, 0x21, 0x4c, 0x18], Codec::Lz4),
    (&[0x28, 0xb5, 0x2f, 0xfd], Codec::Zstd),
];

/// Compression makes kernels 4 to 6 times smaller. No more than this factor is reserved in advance.
const PLAUSIBLE_RATIO: usize = 16;
