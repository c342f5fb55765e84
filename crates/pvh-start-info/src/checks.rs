//! Checks of the values that a builder was given.

use pvh_abi::Gpa;
use zerocopy::little_endian::U32;

use crate::{BuildError, Part, layout::ALIGN_BYTES};

/// Refuses an address where the block cannot be: it must fit ebx.
pub(crate) fn check_place(at: Gpa, size_bytes: u64) -> Result<(), BuildError> {
    if at == Gpa(0) {
        return Err(BuildError::AtZero { part: Part::Block });
    }
    if !at.is_aligned(ALIGN_BYTES) {
        return Err(BuildError::Misaligned { at });
    }
    check_low(Part::Block, at, size_bytes)
}

/// Refuses a NUL inside a command line, which would cut off the rest of it.
pub(crate) fn check_line(part: Part, line: &[u8]) -> Result<(), BuildError> {
    match line.iter().position(|&byte| byte == 0) {
        Some(offset) => Err(BuildError::Nul { part, offset }),
        None => Ok(()),
    }
}

/// Refuses a range that runs past the end of the address space.
pub(crate) fn check_end(part: Part, at: Gpa, len_bytes: u64) -> Result<(), BuildError> {
    match last_byte(at, len_bytes) {
        Some(_) => Ok(()),
        None => Err(BuildError::Overflow {
            part,
            at,
            len_bytes,
        }),
    }
}

/// Refuses a range that does not end below 4 GiB. A range that begins above 0 then has a 32-bit
/// length, too.
pub(crate) fn check_low(part: Part, at: Gpa, len_bytes: u64) -> Result<(), BuildError> {
    match last_byte(at, len_bytes) {
        Some(last) if u32::try_from(last.0).is_ok() => Ok(()),
        _ => Err(BuildError::AboveFourGib {
            part,
            at,
            len_bytes,
        }),
    }
}

/// Returns `value` for a 32-bit field; it is the address or the length of the part at `at`.
pub(crate) fn low(part: Part, at: Gpa, value: u64) -> Result<U32, BuildError> {
    let too_high = BuildError::AboveFourGib {
        part,
        at,
        len_bytes: value,
    };
    u32::try_from(value).map(U32::new).map_err(|_| too_high)
}

/// Returns the length of a table for its 32-bit count.
pub(crate) fn count(part: Part, entries: usize) -> Result<U32, BuildError> {
    let too_many = BuildError::TooMany { part, entries };
    u32::try_from(entries).map(U32::new).map_err(|_| too_many)
}

/// Returns the address of the last byte of a range, or of the start of an empty range; `None` past
/// 2^64 - 1.
pub(crate) fn last_byte(at: Gpa, len_bytes: u64) -> Option<Gpa> {
    at.checked_add(len_bytes.saturating_sub(1))
}
