//! The RAM that a plan may use.

use super::{demand::Demand, error::Fix};
use crate::layout::{ADDRESSABLE, GuestRange, SpanSet};

/// The memory below 4 GiB, as sets.
pub(super) struct Memory {
    pub(super) ram: SpanSet,
    /// RAM that nothing holds yet.
    pub(super) free: SpanSet,
}

impl Memory {
    pub(super) fn new(demand: &Demand<'_>) -> Self {
        let set = |ranges: &[GuestRange]| {
            SpanSet::new(ranges.iter().map(|range| range.span()), ADDRESSABLE)
        };
        let ram = set(demand.ram);
        let free = ram.without(&set(demand.taken));
        Self { ram, free }
    }

    /// More RAM, if there is less than `needed` and so much can be had below 4 GiB, or else the other
    /// way out.
    pub(super) fn more_ram(&self, needed: u64, otherwise: Fix) -> Fix {
        if needed <= HIGHEST_RAM_END && self.ram.end().is_none_or(|end| end < needed) {
            Fix::MoreRam { ram_bytes: needed }
        } else {
            otherwise
        }
    }
}

/// Where RAM below 4 GiB ends at most: the hole for ACPI, the local APIC and the special pages follows.
const HIGHEST_RAM_END: u64 = 0xFC00_0000;
