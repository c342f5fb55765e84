//! What one go of a hypercall may cost, so that no call holds its caller up for long.

use core::cell::Cell;

/// What is left of the cost that one go of a hypercall may have.
///
/// The lists of a guest are nested: a multicall has entries, an entry has elements, an element has
/// frames. Limits on each list alone would multiply, so all levels charge this one budget. Once it
/// is spent, the call stops behind the element that is being worked on and
/// returns the rest as [`Outcome::Again`](crate::Outcome::Again). At least one element is done in
/// each go.
///
/// A unit is about half a microsecond on a slow host. The units are charged for work that was
/// asked for, not measured, so that the same calls always stop at the same places.
#[derive(Debug)]
pub struct Budget {
    /// Above [`u32::MAX`]: without a limit.
    left: Cell<u64>,
}

impl Budget {
    /// The cost of one go: about 2 ms on a slow host.
    pub const GO: u32 = 4096;

    /// The cost of adding, removing or clearing one page of 4096 bytes among many.
    pub const FRAME: u32 = 4;

    /// The cost of a single page that is put somewhere or moved.
    pub const PAGE: u32 = 64;

    /// The cost of one change of the host's memory slots. It takes milliseconds on some hosts, so
    /// it ends the go.
    pub const SLOT: u32 = Self::GO;

    /// Makes a budget of `cost` units.
    #[must_use]
    pub const fn new(cost: u32) -> Self {
        Self {
            left: Cell::new(cost as u64),
        }
    }

    /// Makes a budget that is never spent. Lists are still worked on in parts, by their length.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self {
            left: Cell::new(u64::MAX),
        }
    }

    /// Charges `cost` units. The work may exceed what is left: it is done anyway.
    pub fn charge(&self, cost: u32) {
        let left = self.left.get();
        self.left.set(left.saturating_sub(u64::from(cost)));
    }

    /// Tells whether the budget is spent, so that the rest is left to the next go.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Tells whether this budget has a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.left.get() <= u64::from(u32::MAX)
    }

    /// Charges a copy from or to the guest: a walk of its page tables, and the bytes.
    pub(crate) fn charge_copy(&self, len_bytes: usize) {
        let blocks = u32::try_from(len_bytes / COPY_BLOCK_BYTES).unwrap_or(u32::MAX);
        self.charge(blocks.saturating_add(1));
    }
}

/// The cost of a hypercall, alone or in a multicall.
pub(crate) const CALL: u32 = 8;

/// The cost of an operation on a grant, without the copy of its structure.
pub(crate) const GRANT: u32 = 4;

/// The cost of a call that wakes another part of the domain: a vCPU, or a service.
pub(crate) const SIGNAL: u32 = 64;

/// The bytes that are copied for one unit.
const COPY_BLOCK_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_once_and_never_below_nothing() {
        let budget = Budget::new(10);
        budget.charge(9);
        assert!(!budget.is_spent());
        budget.charge(5);
        assert!(budget.is_spent());
        budget.charge(u32::MAX);
        assert!(budget.is_spent() && budget.is_limited());
    }

    #[test]
    fn a_budget_without_a_limit_is_never_spent() {
        let budget = Budget::unlimited();
        budget.charge(u32::MAX);
        assert!(!budget.is_spent() && !budget.is_limited());
    }

    #[test]
    fn a_copy_costs_one_unit_and_one_more_for_each_256_bytes() {
        let budget = Budget::new(20);
        budget.charge_copy(255);
        budget.charge_copy(4096);
        assert!(!budget.is_spent());
        budget.charge_copy(256);
        assert!(budget.is_spent());
    }
}
