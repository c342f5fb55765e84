//! Guest-physical addresses, and ranges of them.

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

/// A range of guest-physical addresses.
///
/// It holds what its owner says: it may be empty, and it may run past 2^64 - 1, where `end` is
/// `None`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GuestRange {
    /// The first address.
    pub start: Gpa,
    /// Length in bytes; an empty range holds nothing.
    pub len_bytes: u64,
}

impl GuestRange {
    /// Returns the range of `len_bytes` at `start`.
    #[must_use]
    pub const fn new(start: Gpa, len_bytes: u64) -> Self {
        Self { start, len_bytes }
    }

    /// Returns the address after the last byte, or `None` past 2^64 - 1.
    #[must_use]
    pub const fn end(self) -> Option<Gpa> {
        self.start.checked_add(self.len_bytes)
    }

    /// Tells whether some byte lies in both ranges.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        let (a, b) = (self.start.0, other.start.0);
        let (a_end, b_end) = (
            a.saturating_add(self.len_bytes),
            b.saturating_add(other.len_bytes),
        );
        a < a_end && b < b_end && a < b_end && b < a_end
    }

    /// Tells whether the byte at `at` lies in the range.
    #[must_use]
    pub const fn contains(self, at: Gpa) -> bool {
        self.overlaps(Self::new(at, 1))
    }
}

impl fmt::Display for GuestRange {
    /// Writes the range as `start..end`, end exclusive.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = u128::from(self.start.0).saturating_add(u128::from(self.len_bytes));
        write!(f, "{}..{end:#x}", self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gpa, GuestRange};

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

    #[test]
    fn ranges_at_the_end_of_the_address_space_do_not_wrap() {
        extern crate std;
        let last = GuestRange::new(Gpa(u64::MAX - 1), 100);
        assert_eq!(last.end(), None);
        assert!(last.contains(Gpa(u64::MAX - 1)) && !last.contains(Gpa(0)));
        assert!(!last.overlaps(GuestRange::new(Gpa(0), 100)));
        assert_eq!(
            std::format!("{last}"),
            "0xfffffffffffffffe..0x10000000000000062"
        );
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let (low, high) = (GuestRange::new(Gpa(0), 10), GuestRange::new(Gpa(10), 10));
        assert!(!low.overlaps(high) && !high.overlaps(low));
        let across = GuestRange::new(Gpa(9), 2);
        for range in [low, high] {
            assert!(across.overlaps(range) && range.overlaps(across));
        }
    }

    #[test]
    fn an_empty_range_overlaps_nothing() {
        let empty = GuestRange::new(Gpa(5), 0);
        assert!(!empty.overlaps(GuestRange::new(Gpa(0), 10)) && !empty.contains(Gpa(5)));
        assert!(!GuestRange::new(Gpa(0), 10).overlaps(empty));
    }
}
