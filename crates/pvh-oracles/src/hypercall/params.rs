//! The HVM parameters that the guest has set or read, by the rules of params.h.

use std::collections::BTreeMap;

/// The parameters that are known, by number.
#[derive(Debug)]
pub(super) struct Params(BTreeMap<u64, u64>);

const CALLBACK_IRQ: u64 = 0;
const VM86_TSS: u64 = 15;
const VM86_TSS_SIZED: u64 = 37;

impl Params {
    /// What the guest's first calls have set.
    pub(super) fn new(callback: u64) -> Self {
        Self(BTreeMap::from([(CALLBACK_IRQ, callback)]))
    }

    pub(super) fn forget(&mut self) {
        let Self(known) = self;
        known.clear();
    }

    /// The guest has set a parameter. Both parameters for a task state segment are one, with 128
    /// bytes if no size was said, and never more than such a segment can have.
    pub(super) fn set(&mut self, index: u64, value: u64) {
        let Self(known) = self;
        let (low, high) = (value & 0xffff_ffff, value >> 32);
        let (index, value) = match index {
            VM86_TSS if value == 0 => (VM86_TSS_SIZED, 0),
            VM86_TSS => (VM86_TSS_SIZED, 128 << 32 | low),
            VM86_TSS_SIZED => (VM86_TSS_SIZED, high.min(8329) << 32 | low),
            _ => (index, value),
        };
        known.insert(index, value);
        known.remove(&VM86_TSS);
    }

    /// The guest has read a parameter: it is what was set, or what was read before.
    pub(super) fn is_read(&mut self, index: u64, value: u64) {
        let Self(known) = self;
        if index == VM86_TSS
            && let Some(sized) = known.get(&VM86_TSS_SIZED)
        {
            assert_eq!(value, sized & 0xffff_ffff, "parameter {index}");
            return;
        }
        let wanted = *known.entry(index).or_insert(value);
        assert_eq!(value, wanted, "parameter {index}");
    }
}
