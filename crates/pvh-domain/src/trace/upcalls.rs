//! Notices upcalls that a guest does not take.

use core::fmt;
use std::collections::BTreeMap;

use super::wire::{Access, Found, Record, Request, WireOp};

/// Since when the `evtchn_upcall_pending` of each vCPU has been set.
///
/// It holds at most one entry for each of [`PLACES_MAX`] places: a guest may move its `vcpu_info`.
#[derive(Debug, Default)]
pub(super) struct Upcalls {
    /// System time in ns, and whether the delay was reported, by guest-physical address.
    pending: BTreeMap<u64, (u64, bool)>,
}

/// An upcall that has been pending for long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LateUpcall {
    pending_ns: u64,
}

impl fmt::Display for LateUpcall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.pending_ns.checked_div(1_000_000).unwrap_or(0);
        write!(f, "the guest has not taken an upcall for {ms} ms")
    }
}

impl Upcalls {
    /// Looks for upcalls in a record; returns one that was raised again after it had been pending
    /// for more than a second. It is returned once, until the guest takes it.
    pub(super) fn note(&mut self, record: &Record, now_ns: Option<u64>) -> Option<LateUpcall> {
        let now_ns = now_ns?;
        let raised = record.accesses.iter().filter_map(raised_upcall);
        raised.fold(None, |late, (at, was_pending)| {
            late.or(self.raise(at, was_pending, now_ns))
        })
    }

    fn raise(&mut self, at: u64, was_pending: bool, now_ns: u64) -> Option<LateUpcall> {
        if self.pending.len() >= PLACES_MAX && !self.pending.contains_key(&at) {
            self.pending.clear();
        }
        let (since_ns, is_reported) = self.pending.entry(at).or_insert((now_ns, false));
        if !was_pending {
            (*since_ns, *is_reported) = (now_ns, false);
        }
        let pending_ns = now_ns.saturating_sub(*since_ns);
        if *is_reported || pending_ns < LATE_NS {
            return None;
        }
        *is_reported = true;
        Some(LateUpcall { pending_ns })
    }
}

/// The place of an `evtchn_upcall_pending` that the domain sets, and whether it was set before.
///
/// `evtchn_upcall_pending` is the first byte of a `vcpu_info`, which is aligned to 64 bytes in the
/// shared page and by guests.
fn raised_upcall(access: &Access) -> Option<(u64, bool)> {
    let Request::Word32 { at, op } = &access.request else {
        return None;
    };
    match (op, &access.found) {
        (WireOp::Or(1), Found::Word(before)) if at % 64 == 0 => Some((*at, before & 1 != 0)),
        _ => None,
    }
}

/// A guest that keeps interrupts off for longer has a fault, or does not use upcalls.
const LATE_NS: u64 = 1_000_000_000;
/// More than the vCPUs of a domain, so that each keeps its place.
const PLACES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::wire::{WireInput, WireNow, WireOutput};

    /// A tick that raises the upcall of the vCPU at 0x1000.
    fn tick(system_ns: u64, at: u64, before: u64) -> Record {
        let now = WireNow {
            system_ns,
            tsc: 0,
            wall_ns: 0,
        };
        Record {
            input: WireInput::Tick(now),
            accesses: vec![Access {
                request: Request::Word32 {
                    at,
                    op: WireOp::Or(1),
                },
                found: Found::Word(before),
            }],
            output: WireOutput::Nothing,
            effects: vec![],
        }
    }

    fn note(upcalls: &mut Upcalls, ms: u64, before: u64) -> Option<String> {
        let ns = ms.saturating_mul(1_000_000);
        let late = upcalls.note(&tick(ns, 0x1000, before), Some(ns));
        late.map(|late| late.to_string())
    }

    #[test]
    fn an_upcall_that_is_pending_for_a_second_is_reported_once() {
        let mut upcalls = Upcalls::default();
        assert_eq!(note(&mut upcalls, 10, 0), None);
        assert_eq!(note(&mut upcalls, 1009, 1), None);
        let late = note(&mut upcalls, 1510, 1);
        assert_eq!(
            late.as_deref(),
            Some("the guest has not taken an upcall for 1500 ms")
        );
        assert_eq!(note(&mut upcalls, 3000, 1), None);
    }

    #[test]
    fn an_upcall_that_was_taken_is_counted_anew() {
        let mut upcalls = Upcalls::default();
        assert_eq!(note(&mut upcalls, 0, 0), None);
        assert_eq!(note(&mut upcalls, 5000, 0), None);
        assert_eq!(note(&mut upcalls, 5999, 1), None);
        assert!(note(&mut upcalls, 6001, 1).is_some());
    }

    #[test]
    fn a_guest_that_moves_its_vcpu_info_takes_no_more_memory() {
        let mut upcalls = Upcalls::default();
        for place in 0..100_000 {
            let _ = upcalls.note(&tick(place, place.saturating_mul(64), 0), Some(place));
            assert!(upcalls.pending.len() <= PLACES_MAX);
        }
    }
}
