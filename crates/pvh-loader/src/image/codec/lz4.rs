//! LZ4 in the legacy frame that Linux uses.

use super::{error::UnpackError, target::Target};

/// Unpacks a legacy frame: after the magic, blocks of a 32-bit length and that many packed bytes.
///
/// The frame has no end mark. Four last bytes are not a block but the length that the kernel's
/// build appends; they are returned as the rest.
pub(super) fn unpack<'a>(target: &Target<'a>) -> Result<(Vec<u8>, &'a [u8]), UnpackError> {
    let mut out = Output::new(target)?;
    let mut rest = target.packed.get(MAGIC_LEN..).unwrap_or_default();
    while let Some((word, body)) = rest.split_first_chunk::<4>() {
        if body.is_empty() {
            return Ok((out.finish(), rest));
        }
        let len = u32::from_le_bytes(*word);
        if len != MAGIC {
            let Some((block, after)) = block(body, len) else {
                return Err(cut_or_corrupt(target, rest, len));
            };
            out.append(target, block, rest)?;
            rest = after;
        } else {
            rest = body;
        }
    }
    if rest.is_empty() {
        Ok((out.finish(), rest))
    } else {
        Err(target.truncated())
    }
}

/// What has been unpacked, and zeros after it into which the next block is unpacked. The zeros that
/// a block leaves are the next one's room, so that each byte is zeroed once.
struct Output {
    bytes: Vec<u8>,
    filled: usize,
}

impl Output {
    fn new(target: &Target<'_>) -> Result<Self, UnpackError> {
        let mut bytes = Vec::new();
        target.reserve(&mut bytes, target.within_limit(target.expected_bytes))?;
        Ok(Self { bytes, filled: 0 })
    }

    fn append(
        &mut self,
        target: &Target<'_>,
        block: &[u8],
        rest: &[u8],
    ) -> Result<(), UnpackError> {
        let most = block.len().saturating_mul(MAX_RATIO).min(BLOCK_LEN);
        let end = target.within_limit(self.filled.saturating_add(most));
        if end > self.bytes.len() {
            self.grow(target, end)?;
        }
        let into = self.bytes.get_mut(self.filled..end).unwrap_or_default();
        let room = into.len();
        match lz4_flex::block::decompress_into(block, into) {
            Ok(len) => {
                self.filled = self.filled.saturating_add(len);
                Ok(())
            }
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < most => {
                Err(target.too_large())
            }
            Err(refused) => Err(target.corrupt(rest, refused)),
        }
    }

    /// Makes room up to `end`, and as much again as there is, so that many small blocks are not
    /// copied each time. The buffer never holds more than the limit.
    fn grow(&mut self, target: &Target<'_>, end: usize) -> Result<(), UnpackError> {
        let doubled = self.bytes.len().saturating_mul(2);
        let len = if end <= self.bytes.capacity() {
            end
        } else {
            target.within_limit(end.max(doubled))
        };
        let more = len.saturating_sub(self.bytes.len());
        target.reserve(&mut self.bytes, more)?;
        self.bytes.resize(len, 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }
}

fn block(body: &[u8], len: u32) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(len)
        .ok()
        .filter(|len| (1..=MAX_PACKED).contains(len))?;
    body.split_at_checked(len)
}

fn cut_or_corrupt(target: &Target<'_>, rest: &[u8], len: u32) -> UnpackError {
    if usize::try_from(len).is_ok_and(|len| (1..=MAX_PACKED).contains(&len)) {
        return target.truncated();
    }
    target.corrupt(rest, "a block's length is out of range")
}

const MAGIC: u32 = 0x184c_2102;
const MAGIC_LEN: usize = 4;

/// The most that one block holds, unpacked.
const BLOCK_LEN: usize = 8 << 20;

/// The most that one block holds, packed: the worst case of the format.
const MAX_PACKED: usize = BLOCK_LEN + BLOCK_LEN / 255 + 16;

/// More than a block can grow: a byte of a match's length stands for at most 255 bytes.
const MAX_RATIO: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacks one block that holds `content`.
    fn unpacked(content: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let packed = lz4_flex::block::compress(content);
        let len = u32::try_from(packed.len()).unwrap();
        let head = [0x02, 0x21, 0x4c, 0x18];
        let frame = [&head[..], &len.to_le_bytes(), &packed].concat();
        let target = Target {
            packed: &frame,
            limit_bytes: u64::MAX,
            expected_bytes: 0,
        };
        unpack(&target).map(|(content, _)| content)
    }

    #[test]
    fn a_block_of_more_than_8_mib_is_damaged_whatever_the_limit() {
        let refused = unpacked(&vec![0; (8 << 20) + 1]).unwrap_err();
        assert!(matches!(refused, UnpackError::Corrupt { .. }));
    }

    #[test]
    fn many_small_blocks_are_joined_within_the_limit() {
        let packed = lz4_flex::block::compress(b"0123456789");
        let len = u32::try_from(packed.len()).unwrap();
        let block = [&len.to_le_bytes()[..], &packed].concat();
        let frame = [&[0x02, 0x21, 0x4c, 0x18][..], &block.repeat(100_000)].concat();
        let within = |limit_bytes| {
            let target = Target {
                packed: &frame,
                limit_bytes,
                expected_bytes: 0,
            };
            unpack(&target).map(|(content, _)| content)
        };
        assert!(within(1_000_000).unwrap() == b"0123456789".repeat(100_000));
        let refused = within(999_999).unwrap_err();
        assert!(matches!(
            refused,
            UnpackError::TooLarge {
                limit_bytes: 999_999
            }
        ));
    }

    #[test]
    fn a_block_of_8_mib_that_packing_has_made_longer_is_taken() {
        let mut state = 1_u32;
        let noise = core::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let content: Vec<u8> = noise.take(8 << 20).collect();
        assert!(unpacked(&content).unwrap() == content);
    }
}
