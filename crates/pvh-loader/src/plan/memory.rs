//! The RAM that a plan may use.

use pvh_abi::GuestRange;

use super::{demand::Demand, error::Fix};
use crate::layout::{ADDRESSABLE, Span, SpanSet};

/// The memory below 4 GiB, as sets.
pub(super) struct Memory {
    pub(super) ram: SpanSet,
    /// RAM in which nothing lies yet.
    pub(super) free: SpanSet,
}

impl Memory {
    pub(super) fn new(demand: &Demand<'_>) -> Self {
        let set =
            |ranges: &[GuestRange]| SpanSet::new(ranges.iter().copied().map(Span::of), ADDRESSABLE);
        let ram = set(demand.ram);
        let free = ram.without(&set(demand.taken));
        Self { ram, free }
    }

    /// Returns [`Fix::MoreRam`] if there is less RAM than `needed` and `needed` fits below 4 GiB,
    /// else `otherwise`.
    pub(super) fn more_ram(&self, needed: u64, otherwise: Fix) -> Fix {
        if needed <= HIGHEST_RAM_END && self.ram.end().is_none_or(|end| end < needed) {
            Fix::MoreRam { ram_bytes: needed }
        } else {
            otherwise
        }
    }
}

/// The highest end of RAM below 4 GiB. ACPI tables, the local APIC and the special pages lie above
/// it.
const HIGHEST_RAM_END: u64 = 0xFC00_0000;
