//! Sizes as a user writes them: `64K`, `512M`, `4G`, `1T`, or a number of bytes.

use std::{fmt, str::FromStr};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(u64);

impl Size {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Reads a size of guest RAM.
    ///
    /// # Errors
    ///
    /// [`SizeError`]: no size, none at all, or a number without a unit that is too small for any guest, which
    /// the user probably meant in MiB.
    pub fn of_memory(text: &str) -> Result<Self, SizeError> {
        let size: Self = text.parse()?;
        if size.0 == 0 {
            return Err(SizeError::Zero);
        }
        let has_unit = !text.bytes().all(|byte| byte.is_ascii_digit());
        if has_unit || size.0 >= SMALLEST_GUEST_BYTES {
            return Ok(size);
        }
        Err(SizeError::NoUnit { number: size.0 })
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Why a text is not a size of guest RAM.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// It is not a number with a unit.
    #[error("not a size; write a whole number with K, M, G or T, as in 512M")]
    NotASize,
    /// The number is too large.
    #[error("larger than 2^64 bytes")]
    TooLarge,
    /// It is 0.
    #[error("a guest needs memory, as in 512M")]
    Zero,
    /// A number without a unit is too small for any guest.
    #[error("{}; did you mean {number}M?", Bytes(*number))]
    NoUnit {
        /// The number.
        number: u64,
    },
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = split_unit(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SizeError::NotASize);
        }
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
        let bytes = number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
        Ok(Self(bytes))
    }
}

/// Splits off the unit: `K`, `M`, `G`, `T` in either case, with or without `iB` or `B`.
fn split_unit(text: &str) -> (&str, u32) {
    let lower = text.to_ascii_lowercase();
    let bare = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let shift = match bare.bytes().last() {
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        // "5B" and "5iB" are not accepted: the letters stay, so that the number is refused.
        _ => return (text, 0),
    };
    let digits = bare.len().saturating_sub(1);
    (text.get(..digits).unwrap_or(text), shift)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let whole = units
            .iter()
            .find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match whole {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", Bytes(self.0)),
        }
    }
}

/// A number of bytes, all of them.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            number => write!(f, "{number} bytes"),
        }
    }
}

/// Guests are loaded at 1 MiB, so no guest fits in less.
const SMALLEST_GUEST_BYTES: u64 = 1 << 20;

/// A number of bytes for people: in its largest unit, with at most one digit after the point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rounded(
    /// The number of bytes.
    pub u64,
);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = units.into_iter().find(|(shift, _)| self.0 >> shift != 0);
        let Some((shift, unit)) = unit else {
            return write!(f, "{}", Bytes(self.0));
        };
        let whole = self.0 >> shift;
        let rest = self.0.wrapping_sub(whole << shift);
        // The rest is less than 2^40: ten times that is in range.
        let tenth = rest.saturating_mul(10) >> shift;
        match tenth {
            0 => write!(f, "{whole} {unit}"),
            tenth => write!(f, "{whole}.{tenth} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<u64, SizeError> {
        text.parse::<Size>().map(Size::bytes)
    }

    #[test]
    fn units_are_powers_of_1024_in_either_case() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("4GiB"), Ok(4 << 30));
        assert_eq!(bytes("4GB"), Ok(4 << 30));
        assert_eq!(bytes("1T"), Ok(1 << 40));
        assert_eq!(bytes("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "M", "-1", "+1", "1.5G", "0x10", "1 G", "5B", "1P", "1MM", "é", "1é",
        ] {
            assert_eq!(bytes(text), Err(SizeError::NotASize), "{text:?}");
        }
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        assert_eq!(bytes("16777215T"), Ok(16_777_215 << 40));
        assert_eq!(bytes("16777216T"), Err(SizeError::TooLarge));
        assert_eq!(bytes("99999999999999999999"), Err(SizeError::TooLarge));
    }

    #[test]
    fn for_people_a_size_has_its_largest_unit_and_a_digit() {
        let shown = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (512 << 20, "512 MiB"),
            (22_906_492_245, "21.3 GiB"),
            (8 << 40, "8 TiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (bytes, text) in shown {
            assert_eq!(Rounded(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_whole_unit() {
        for text in ["512M", "4G", "1T", "3K"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!(Size::of(1).to_string(), "1 byte");
        assert_eq!(Size::of(4097).to_string(), "4097 bytes");
    }
}
