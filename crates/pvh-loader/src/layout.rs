//! Spans of guest-physical addresses as plain numbers, and sets of them.

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};

/// Half open: `end` is the first address after it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    pub(crate) const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// The addresses of a range; one that runs past the end of the address space stops there.
    pub(crate) const fn of(range: GuestRange) -> Self {
        Self::new(range.start.0, range.start.0.saturating_add(range.len_bytes))
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub(crate) const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub(crate) const fn range(self) -> GuestRange {
        GuestRange::new(Gpa(self.start), self.len())
    }

    /// The part of it that lies in `other` too.
    fn clipped(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

/// Returns the length of the whole pages that hold `len_bytes`, at least one page; `None` past 2^64
/// - 1.
pub(crate) fn pages(len_bytes: u64) -> Option<u64> {
    len_bytes.max(1).checked_next_multiple_of(PAGE_SIZE)
}

/// What a place must satisfy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    pub(crate) len_bytes: u64,
    /// A power of two; nothing fits otherwise.
    pub(crate) align_bytes: u64,
    /// The whole piece lies in here.
    pub(crate) within: Span,
}

/// A set of addresses: sorted spans that neither touch nor overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanSet {
    spans: Vec<Span>,
}

impl SpanSet {
    /// The addresses of any of `spans`, which may overlap and come in any order, that lie in
    /// `within`.
    pub(crate) fn new(spans: impl IntoIterator<Item = Span>, within: Span) -> Self {
        let clipped = spans.into_iter().map(|span| span.clipped(within));
        let mut sorted: Vec<Span> = clipped.filter(|span| !span.is_empty()).collect();
        sorted.sort_unstable();
        let mut spans: Vec<Span> = Vec::with_capacity(sorted.len());
        for span in sorted {
            match spans.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => spans.push(span),
            }
        }
        Self { spans }
    }

    /// The addresses of this set that are not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut spans = Vec::with_capacity(self.spans.len());
        let mut holes = other.spans.iter().copied().peekable();
        for &span in &self.spans {
            let mut rest = span;
            while let Some(&hole) = holes.peek() {
                if hole.start >= rest.end {
                    break;
                }
                let before = Span::new(rest.start, hole.start.min(rest.end));
                if !before.is_empty() {
                    spans.push(before);
                }
                rest.start = rest.start.max(hole.end);
                if hole.end > span.end {
                    break; // the hole reaches into the next span
                }
                holes.next();
            }
            if !rest.is_empty() {
                spans.push(rest);
            }
        }
        Self { spans }
    }

    /// Takes the addresses of `span` out of the set.
    pub(crate) fn remove(&mut self, span: Span) {
        *self = self.without(&Self::new([span], span));
    }

    /// Returns the lowest address of `span` that is not in the set.
    pub(crate) fn first_missing(&self, span: Span) -> Option<u64> {
        if span.is_empty() {
            return None;
        }
        let after = self.spans.partition_point(|have| have.end <= span.start);
        match self.spans.get(after) {
            Some(have) if have.start <= span.start => (have.end < span.end).then_some(have.end),
            _ => Some(span.start),
        }
    }

    /// Returns the lowest place for `fit`.
    pub(crate) fn lowest(&self, fit: Fit) -> Option<u64> {
        let from = self
            .spans
            .partition_point(|have| have.end <= fit.within.start);
        self.spans.iter().skip(from).find_map(|&have| {
            let room = have.clipped(fit.within);
            let start = Gpa(room.start).checked_align_up(fit.align_bytes)?.0;
            (start.checked_add(fit.len_bytes)? <= room.end).then_some(start)
        })
    }

    /// Returns the highest place for `fit`.
    pub(crate) fn highest(&self, fit: Fit) -> Option<u64> {
        if !fit.align_bytes.is_power_of_two() {
            return None;
        }
        self.spans.iter().rev().find_map(|&have| {
            let room = have.clipped(fit.within);
            let last = room.end.checked_sub(fit.len_bytes)?;
            let start = last.checked_sub(last.checked_rem(fit.align_bytes)?)?;
            (start >= room.start).then_some(start)
        })
    }

    /// Returns the length of the longest run that starts at a multiple of `align_bytes` in
    /// `within`.
    pub(crate) fn longest(&self, align_bytes: u64, within: Span) -> u64 {
        let rooms = self.spans.iter().filter_map(|have| {
            let room = have.clipped(within);
            let start = Gpa(room.start).checked_align_up(align_bytes)?.0;
            room.end.checked_sub(start)
        });
        rooms.max().unwrap_or(0)
    }

    /// Returns the address after the last one of the set.
    pub(crate) fn end(&self) -> Option<u64> {
        self.spans.last().map(|span| span.end)
    }
}

/// Nothing is placed at or above this address: the entry point and the start info are 32-bit (4
/// GiB).
pub(crate) const ADDRESSABLE: Span = Span::new(0, 1 << 32);

/// Start info and what it points to lie below it: guests read them through a 1 GiB boot mapping.
pub(crate) const START_INFO_END: u64 = 1 << 30;

/// Kept free of what the loader places (an image's own segments may lie there): guests copy
/// trampolines to the first pages (Xen to 0x1000, OSv to 0x1000 and 0x2000), may have a stack in
/// the last page below 640 KiB, and take the last 384 KiB below 1 MiB for a legacy hole (Linux).
pub(crate) const LOW_PAGES: [Span; 2] = [Span::new(0, 0x1_0000), Span::new(0x9_F000, ISA_END)];

/// The end of the legacy hole, 1 MiB.
pub(crate) const ISA_END: u64 = 0x10_0000;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers are small, and a test may stop"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(spans: &[(u64, u64)]) -> SpanSet {
        let spans = spans.iter().map(|&(start, end)| Span::new(start, end));
        SpanSet::new(spans, Span::new(0, u64::MAX))
    }

    fn pairs(set: &SpanSet) -> Vec<(u64, u64)> {
        set.spans.iter().map(|s| (s.start, s.end)).collect()
    }

    fn fit(len_bytes: u64, align_bytes: u64, start: u64, end: u64) -> Fit {
        Fit {
            len_bytes,
            align_bytes,
            within: Span::new(start, end),
        }
    }

    #[test]
    fn a_set_is_sorted_and_its_touching_spans_are_one() {
        assert_eq!(
            pairs(&set(&[(8, 9), (1, 3), (3, 5), (2, 4), (7, 7)])),
            [(1, 5), (8, 9)]
        );
    }

    #[test]
    fn a_hole_over_several_spans_leaves_their_ends() {
        let left = set(&[(0, 10), (20, 30), (40, 50)]).without(&set(&[(5, 45), (47, 48)]));
        assert_eq!(pairs(&left), [(0, 5), (45, 47), (48, 50)]);
    }

    #[test]
    fn the_lowest_place_is_aligned_and_within() {
        let free = set(&[(1, 10), (20, 100)]);
        assert_eq!(free.lowest(fit(4, 4, 0, 100)), Some(4));
        assert_eq!(free.lowest(fit(4, 4, 7, 100)), Some(20));
        assert_eq!(free.lowest(fit(4, 4, 21, 27)), None);
        assert_eq!(free.lowest(fit(4, 3, 0, 100)), None);
    }

    #[test]
    fn the_highest_place_is_rounded_down_to_its_alignment() {
        let free = set(&[(0, 40), (50, 63)]);
        assert_eq!(free.highest(fit(10, 8, 0, 100)), Some(24));
        assert_eq!(free.highest(fit(10, 2, 0, 100)), Some(52));
        assert_eq!(free.highest(fit(10, 8, 25, 100)), None);
        assert_eq!(free.highest(fit(10, 0, 0, 100)), None);
    }

    #[test]
    fn the_longest_run_is_counted_from_its_first_aligned_address() {
        let free = set(&[(1, 10), (20, 27)]);
        let within = |end| Span::new(0, end);
        assert_eq!(free.longest(1, within(100)), 9);
        assert_eq!(free.longest(8, within(100)), 3);
        assert_eq!(free.longest(4, within(100)), 7);
        assert_eq!(free.longest(4, within(23)), 6);
        assert_eq!(free.longest(64, within(100)), 0);
    }

    fn spans() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let span = (0_u64..64, 0_u64..12).prop_map(|(start, len)| (start, start + len));
        prop::collection::vec(span, 0..8)
    }

    fn has(spans: &[(u64, u64)], at: u64) -> bool {
        spans.iter().any(|&(start, end)| (start..end).contains(&at))
    }

    proptest! {
        #[test]
        fn a_difference_holds_exactly_what_only_the_first_holds(a in spans(), b in spans()) {
            let left = pairs(&set(&a).without(&set(&b)));
            for at in 0..80 {
                prop_assert_eq!(has(&left, at), has(&a, at) && !has(&b, at), "at {}", at);
            }
            for pair in left.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0);
            }
        }

        #[test]
        fn the_first_missing_address_is_found(a in spans(), start in 0_u64..64, len in 0_u64..16) {
            let want = (start..start + len).find(|&at| !has(&a, at));
            prop_assert_eq!(set(&a).first_missing(Span::new(start, start + len)), want);
        }

        #[test]
        fn places_are_the_lowest_and_the_highest(
            a in spans(), len in 1_u64..8, shift in 0_u32..4, start in 0_u64..40, room in 0_u64..40,
        ) {
            let align = 1_u64 << shift;
            let end = start + room;
            let fits = |at: &u64| at.is_multiple_of(align)
                && at + len <= end
                && (*at..at + len).all(|byte| has(&a, byte));
            prop_assert_eq!(set(&a).lowest(fit(len, align, start, end)), (start..end).find(fits));
            prop_assert_eq!(set(&a).highest(fit(len, align, start, end)), (start..end).rev().find(fits));
        }
    }
}
