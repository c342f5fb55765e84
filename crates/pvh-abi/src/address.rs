//! Guest-physical addresses.

use core::fmt;

/// A guest-physical address, in bytes.
///
/// It has no arithmetic operators, so that every addition names what happens on overflow.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Gpa(pub u64);

/// The size of a page in bytes, for every PVH guest.
pub const PAGE_SIZE: u64 = 4096;

impl Gpa {
    /// Returns the address `len_bytes` further on, or `None` past 2^64 - 1.
    #[must_use]
    pub const fn checked_add(self, len_bytes: u64) -> Option<Self> {
        match self.0.checked_add(len_bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Returns the distance in bytes from `origin` up to this address, or `None` if it lies below.
    #[must_use]
    pub const fn checked_offset_from(self, origin: Self) -> Option<u64> {
        self.0.checked_sub(origin.0)
    }

    /// Rounds up to a multiple of `align_bytes`, a power of two; `None` past 2^64 - 1 or for
    /// an alignment that is not a power of two.
    #[must_use]
    pub const fn checked_align_up(self, align_bytes: u64) -> Option<Self> {
        if !align_bytes.is_power_of_two() {
            return None;
        }
        match self.0.checked_next_multiple_of(align_bytes) {
            Some(rounded) => Some(Self(rounded)),
            None => None,
        }
    }

    /// Tells whether the address is a multiple of `align_bytes`; nothing is a multiple of 0.
    #[must_use]
    pub const fn is_aligned(self, align_bytes: u64) -> bool {
        matches!(self.0.checked_rem(align_bytes), Some(0))
    }
}

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Gpa;

    #[test]
    fn an_addition_past_the_end_is_none() {
        assert_eq!(Gpa(u64::MAX - 1).checked_add(1), Some(Gpa(u64::MAX)));
        assert_eq!(Gpa(u64::MAX).checked_add(1), None);
    }

    #[test]
    fn an_address_is_shown_in_hexadecimal() {
        extern crate std;
        assert_eq!(std::format!("{}", Gpa(0x10_0000)), "0x100000");
        assert_eq!(std::format!("{:010x}", Gpa(0x10_0000)), "0000100000");
    }

    #[test]
    fn rounding_up_keeps_multiples_and_refuses_bad_alignments() {
        assert_eq!(Gpa(0x1000).checked_align_up(0x1000), Some(Gpa(0x1000)));
        assert_eq!(Gpa(0x1001).checked_align_up(0x1000), Some(Gpa(0x2000)));
        assert_eq!(Gpa(u64::MAX).checked_align_up(0x1000), None);
        assert_eq!(Gpa(5).checked_align_up(0), None);
        assert_eq!(Gpa(5).checked_align_up(3), None);
    }

    #[test]
    fn an_offset_below_the_origin_is_none() {
        assert_eq!(Gpa(5).checked_offset_from(Gpa(3)), Some(2));
        assert_eq!(Gpa(3).checked_offset_from(Gpa(5)), None);
        assert!(Gpa(0x2000).is_aligned(0x1000) && !Gpa(1).is_aligned(0));
    }
}
