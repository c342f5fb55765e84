//! The bytes of one packed stream and the bound on what it unpacks to.

use std::io::{self, Read};

use super::error::UnpackError;

/// The packed bytes, and the limit on the unpacked ones.
pub(super) struct Target<'a> {
    pub(super) packed: &'a [u8],
    pub(super) limit_bytes: u64,
    /// The length that the trailer states, capped at a plausible one; a hint only.
    pub(super) expected_bytes: usize,
}

impl<'a> Target<'a> {
    /// Returns the offset of `rest`, the part of `packed` that has not been read.
    pub(super) fn offset_of(&self, rest: &[u8]) -> u64 {
        to_u64(self.packed.len().saturating_sub(rest.len()))
    }

    pub(super) fn truncated(&self) -> UnpackError {
        UnpackError::Truncated {
            offset: to_u64(self.packed.len()),
        }
    }

    pub(super) fn corrupt(
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

    pub(super) fn too_large(&self) -> UnpackError {
        UnpackError::TooLarge {
            limit_bytes: self.limit_bytes,
        }
    }

    /// Returns the smaller of `len` and the limit.
    pub(super) fn within_limit(&self, len: usize) -> usize {
        len.min(usize::try_from(self.limit_bytes).unwrap_or(usize::MAX))
    }

    pub(super) fn copy(&self) -> Result<Vec<u8>, UnpackError> {
        let mut out = Vec::new();
        self.reserve(&mut out, self.packed.len())?;
        out.extend_from_slice(self.packed);
        Ok(out)
    }

    /// Reserves `more` bytes in `out`, within the limit.
    pub(super) fn reserve(&self, out: &mut Vec<u8>, more: usize) -> Result<(), UnpackError> {
        let len_bytes = to_u64(out.len()).saturating_add(to_u64(more));
        if len_bytes > self.limit_bytes {
            return Err(self.too_large());
        }
        out.try_reserve_exact(more)
            .map_err(|_| UnpackError::NoMemory { len_bytes })
    }

    /// Reads `decoder` to its end. Memory grows with the bytes that come out.
    pub(super) fn drain(&self, decoder: &mut impl Read) -> Result<Vec<u8>, Drained> {
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

/// Why a decoder could not be read to its end.
pub(super) enum Drained {
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

pub(super) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The smallest number of bytes that a decoder is asked for.
const MIN_STEP: usize = 64 << 10;
