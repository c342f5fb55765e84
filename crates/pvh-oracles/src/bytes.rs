//! Little-endian fields of a byte string, read the simple way.

/// Returns the field of `size` bytes at `at`, if it is complete.
pub(super) fn field(bytes: &[u8], at: u64, size: usize) -> Option<u64> {
    let start = usize::try_from(at).ok()?;
    let field = bytes.get(start..start.checked_add(size)?)?;
    let value = field.iter().rev();
    Some(value.fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
}

/// Returns the `len` bytes from `at` on.
pub(super) fn slice(bytes: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    let len = usize::try_from(len).ok()?;
    bytes.get(start..start.checked_add(len)?)
}

/// Asserts that each error of a chain displays as one printable line.
pub(super) fn is_printable(error: &dyn std::error::Error) {
    let mut next = Some(error);
    while let Some(now) = next {
        let text = now.to_string();
        let is_plain = text.chars().all(|c| !c.is_control());
        assert!(is_plain && !text.is_empty(), "an error shows {text:?}");
        next = now.source();
    }
}
