//! The compressions a kernel may come in, each undone by a streaming decoder within stated bounds.

use std::io::{self, Read};

mod lz4;
mod lzo;
mod stream;
mod zstd;

use crate::image::Limits;

/// How a payload is packed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Codec {
    /// Not packed at all: an ELF as it is.
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

impl Codec {
    /// Tells the codec by the first bytes of a payload, or `None` for one we do not know.
    #[must_use]
    pub fn detect(head: &[u8]) -> Option<Self> {
        let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
        known.map(|(_, codec)| *codec)
    }

    /// Returns its name, as the kernel's configuration has it.
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

/// Unpacks `packed` whole.
///
/// What may follow the stream: nothing after gzip, whose trailer holds the length; after the others nothing,
/// or the four bytes of the length that the kernel's build appends.
pub(crate) fn unpack(codec: Codec, packed: &[u8], limits: &Limits) -> Result<Vec<u8>, UnpackError> {
    let limit_bytes = limits.max_unpacked_bytes;
    let target = Target {
        packed,
        limit_bytes,
        expected_bytes: expected_bytes(codec, packed),
    };
    let (unpacked, rest) = match codec {
        Codec::Stored => (target.copy()?, &[][..]),
        Codec::Gzip => stream::gzip(&target)?,
        Codec::Bzip2 => stream::bzip2(&target)?,
        Codec::Lzma => stream::lzma(&target, limits.max_window_bytes)?,
        Codec::Xz => stream::xz(&target, limits.max_window_bytes)?,
        Codec::Zstd => zstd::unpack(&target, limits.max_window_bytes)?,
        Codec::Lzo => lzo::unpack(&target)?,
        Codec::Lz4 => lz4::unpack(&target)?,
    };
    check_rest(codec, &target, rest, &unpacked)?;
    Ok(unpacked)
}

/// What to unpack, and how much may come of it.
struct Target<'a> {
    packed: &'a [u8],
    limit_bytes: u64,
    /// The length the trailer promises, at most what such a stream can plausibly hold; only a hint.
    expected_bytes: usize,
}

impl<'a> Target<'a> {
    /// The offset of `rest`, the end of `packed` that has not been read.
    fn offset_of(&self, rest: &[u8]) -> u64 {
        to_u64(self.packed.len().saturating_sub(rest.len()))
    }

    fn truncated(&self) -> UnpackError {
        UnpackError::Truncated {
            offset: to_u64(self.packed.len()),
        }
    }

    fn corrupt(
        &self,
        rest: &[u8],
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> UnpackError {
        let source = io::Error::new(io::ErrorKind::InvalidData, source);
        UnpackError::Corrupt {
            offset: self.offset_of(rest),
            source,
        }
    }

    fn too_large(&self) -> UnpackError {
        UnpackError::TooLarge {
            limit_bytes: self.limit_bytes,
        }
    }

    /// The smaller of `len` and the limit.
    fn within_limit(&self, len: usize) -> usize {
        len.min(usize::try_from(self.limit_bytes).unwrap_or(usize::MAX))
    }

    fn copy(&self) -> Result<Vec<u8>, UnpackError> {
        let mut out = Vec::new();
        self.reserve(&mut out, self.packed.len())?;
        out.extend_from_slice(self.packed);
        Ok(out)
    }

    /// Makes room for `more` bytes in `out`, which may not grow past the limit.
    fn reserve(&self, out: &mut Vec<u8>, more: usize) -> Result<(), UnpackError> {
        let len_bytes = to_u64(out.len()).saturating_add(to_u64(more));
        if len_bytes > self.limit_bytes {
            return Err(self.too_large());
        }
        out.try_reserve_exact(more)
            .map_err(|_| UnpackError::NoMemory { len_bytes })
    }

    /// Reads `decoder` to its end; memory grows with what it really yields.
    fn drain(&self, decoder: &mut impl Read) -> Result<Vec<u8>, Drained> {
        let mut out = Vec::new();
        let mut step = self.expected_bytes.max(MIN_STEP);
        loop {
            let left = self.limit_bytes.saturating_sub(to_u64(out.len()));
            let room = step.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.reserve(&mut out, room)?;
            let got = decoder.by_ref().take(to_u64(room)).read_to_end(&mut out)?;
            let mut probe = [0_u8; 1];
            if got < room || decoder.read(&mut probe)? == 0 {
                return Ok(out);
            }
            self.reserve(&mut out, probe.len())?;
            out.extend_from_slice(&probe);
            step = out.len();
        }
    }
}

/// Why a decoder was not read to its end.
enum Drained {
    Decoder(io::Error),
    Bound(UnpackError),
}

impl From<io::Error> for Drained {
    fn from(source: io::Error) -> Self {
        Self::Decoder(source)
    }
}

impl From<UnpackError> for Drained {
    fn from(bound: UnpackError) -> Self {
        Self::Bound(bound)
    }
}

/// Checks what follows the stream.
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

/// The length the last four bytes give, capped so that a lie costs nothing.
fn expected_bytes(codec: Codec, packed: &[u8]) -> usize {
    let stated = match packed.last_chunk::<4>() {
        Some(word) if codec != Codec::Stored => u32::from_le_bytes(*word),
        _ => 0,
    };
    let plausible = packed.len().saturating_mul(PLAUSIBLE_RATIO);
    usize::try_from(stated).map_or(plausible, |stated| stated.min(plausible))
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
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

/// A kernel shrinks to a quarter or a sixth of itself; more than this is not reserved on its word alone.
const PLAUSIBLE_RATIO: usize = 16;

/// The least a decoder is read by.
const MIN_STEP: usize = 64 << 10;
