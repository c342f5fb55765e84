//! Zstandard, by libzstd.

use super::{error::UnpackError, target::Target};

/// Unpacks one frame into one buffer, without a copy.
///
/// Linux's frames do not say how long their content is. The first buffer has the length that the
/// kernel's build appends; each further one is twice as long, up to the limit. Memory that is not
/// written to costs nothing.
pub(super) fn unpack<'a>(
    target: &Target<'a>,
    max_window_bytes: u64,
) -> Result<(Vec<u8>, &'a [u8]), UnpackError> {
    let packed = target.packed;
    if window_bytes(packed).is_some_and(|window| window > max_window_bytes) {
        return Err(target.corrupt(packed, "its window is larger than the limit"));
    }
    let len = zstd_safe::find_frame_compressed_size(packed);
    let len = len.map_err(|code| refused(target, code))?;
    let Some((frame, rest)) = packed.split_at_checked(len) else {
        return Err(target.truncated());
    };
    let mut room = target.expected_bytes.max(MIN_ROOM);
    loop {
        room = target.within_limit(room);
        let mut out = Vec::new();
        target.reserve(&mut out, room)?;
        match zstd_safe::decompress(&mut out, frame) {
            Ok(_) if out.len() > target.within_limit(out.len()) => return Err(target.too_large()),
            Ok(_) => return Ok((out, rest)),
            Err(TOO_SMALL) if target.within_limit(usize::MAX) <= room => {
                return Err(target.too_large());
            }
            Err(TOO_SMALL) => room = room.saturating_mul(2),
            Err(code) => return Err(refused(target, code)),
        }
    }
}

fn refused(target: &Target<'_>, code: usize) -> UnpackError {
    if code == TOO_SHORT {
        return target.truncated();
    }
    target.corrupt(target.packed, zstd_safe::get_error_name(code))
}

/// Returns the window that a frame's header asks for (RFC 8878, 3.1.1.1), or `None` if it names
/// none.
///
/// libzstd allocates no window here; the kernel's own unpacker would.
fn window_bytes(packed: &[u8]) -> Option<u64> {
    let [descriptor, window, ..] = *packed.get(MAGIC_LEN..)? else {
        return None;
    };
    if descriptor & SINGLE_SEGMENT != 0 {
        return None; // the content is the window, and the limits bound it
    }
    let base = 1_u64.checked_shl(u32::from(window >> 3).saturating_add(10))?;
    let eighths = u64::from(window & 7);
    Some(base.saturating_add((base / 8).saturating_mul(eighths)))
}

const MAGIC_LEN: usize = 4;

const SINGLE_SEGMENT: u8 = 0x20;

/// "Destination buffer is too small" (zstd_errors.h: 70), as the library returns errors.
const TOO_SMALL: usize = 0_usize.wrapping_sub(70);

/// "Src size is incorrect" (72): the bytes end before the frame does.
const TOO_SHORT: usize = 0_usize.wrapping_sub(72);

/// Length of the smallest buffer.
const MIN_ROOM: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::window_bytes;

    #[test]
    fn a_window_is_a_power_of_two_and_eighths_of_it() {
        let header = |descriptor, window| {
            let mut header = vec![0x28, 0xB5, 0x2F, 0xFD];
            header.extend([descriptor, window]);
            window_bytes(&header)
        };
        assert_eq!(header(0, 0), Some(1 << 10));
        assert_eq!(header(0, 0x88), Some(128 << 20));
        assert_eq!(header(0, 0x93), Some((256 << 20) / 8 * 11));
        assert_eq!(header(0, 0xFF), Some((1 << 41) / 8 * 15));
        assert_eq!(header(0x20, 0xFF), None);
        assert_eq!(window_bytes(b""), None);
    }
}
