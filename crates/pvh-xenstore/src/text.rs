//! The strings and numbers in payloads: NUL-terminated strings, and numbers as C reads them.

/// Returns the strings of a payload that end in a NUL. Bytes after the last NUL are no string.
pub(crate) fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|string| string.strip_suffix(b"\0"))
}

/// Returns the string of a payload whose only NUL is its last byte.
pub(crate) fn only_string(payload: &[u8]) -> Option<&[u8]> {
    payload
        .strip_suffix(b"\0")
        .filter(|string| !string.contains(&0))
}

/// Returns the first string of a payload, and the bytes after it.
pub(crate) fn first_string(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = payload.iter().position(|&byte| byte == 0)?;
    let (string, rest) = payload.split_at(end);
    Some((string, rest.get(1..)?))
}

/// Returns the decimal number at the start of a string modulo 2^32, or 0, as `atoi` does.
pub(crate) fn atoi(string: &[u8]) -> u32 {
    let (is_negative, digits) = sign(string);
    let (value, _) = number(digits, 10);
    wrap(if is_negative {
        value.saturating_neg()
    } else {
        value
    })
}

/// Reads a whole string as a number modulo 2^32: decimal, octal after `0`, hexadecimal after `0x`.
pub(crate) fn whole_number(string: &[u8]) -> Option<u32> {
    let (is_negative, digits) = sign(string);
    let hex = digits
        .strip_prefix(b"0x")
        .or_else(|| digits.strip_prefix(b"0X"));
    let (base, digits) = match (hex, digits.first()) {
        (Some(hex), _) => (16, hex),
        (None, Some(b'0')) => (8, digits),
        _ => (10, digits),
    };
    let (value, taken) = number(digits, base);
    if taken == 0 || taken != digits.len() {
        return None;
    }
    Some(wrap(if is_negative {
        value.saturating_neg()
    } else {
        value
    }))
}

/// Skips blanks and reads a sign; true stands for a minus.
fn sign(string: &[u8]) -> (bool, &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let blanks = string.iter().take_while(|&byte| is_blank(byte)).count();
    match string.get(blanks..).unwrap_or_default() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    }
}

/// Returns the number at the start of a string, and how many digits it has.
fn number(string: &[u8], base: u32) -> (i64, usize) {
    let digit = |&byte: &u8| char::from(byte).to_digit(base);
    let digits = string.iter().map_while(digit);
    digits.fold((0_i64, 0_usize), |(value, count), digit| {
        let value = value
            .saturating_mul(i64::from(base))
            .saturating_add(i64::from(digit));
        (value, count.saturating_add(1))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is kept modulo 2^32"
)]
fn wrap(value: i64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::{atoi, first_string, only_string, strings, whole_number};

    #[test]
    fn bytes_after_the_last_nul_are_no_string() {
        let found: Vec<_> = strings(b"a\0\0bc\0d").collect();
        assert_eq!(found, [&b"a"[..], b"", b"bc"]);
        assert_eq!(strings(b"").count(), 0);
    }

    #[test]
    fn one_string_has_one_nul_at_its_end() {
        assert_eq!(only_string(b"a\0"), Some(&b"a"[..]));
        assert_eq!(only_string(b"\0"), Some(&b""[..]));
        for bad in [&b""[..], b"a", b"a\0b", b"a\0b\0", b"\0\0"] {
            assert_eq!(only_string(bad), None, "{bad:?}");
        }
        assert_eq!(first_string(b"a\0b\0"), Some((&b"a"[..], &b"b\0"[..])));
        assert_eq!(first_string(b"ab"), None);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let cases = [
            ("", 0),
            ("5", 5),
            (" +5x", 5),
            ("-1", u32::MAX),
            ("x", 0),
            ("0x5", 0),
        ];
        for (string, value) in cases {
            assert_eq!(atoi(string.as_bytes()), value, "{string}");
        }
        assert_eq!(atoi(b"99999999999999999999"), u32::MAX);
        let cases = [
            ("5", 5),
            ("010", 8),
            ("0x1F", 31),
            (" -1", u32::MAX),
            ("0", 0),
        ];
        for (string, value) in cases {
            assert_eq!(whole_number(string.as_bytes()), Some(value), "{string}");
        }
        for bad in ["", " ", "-", "0x", "08", "5 ", "x"] {
            assert_eq!(whole_number(bad.as_bytes()), None, "{bad}");
        }
    }
}
