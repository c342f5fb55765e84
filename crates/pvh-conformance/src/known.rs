//! Known differences from Xen: those on purpose, and those that a host causes.

use crate::tap::{Check, Difference, Outcome, Tap};

/// Checks that may differ, named by their common prefix, and the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Known {
    /// The prefix of the names of these checks, without the width of the caller.
    pub checks: &'static str,
    /// The reason.
    pub why: &'static str,
}

/// All known differences; docs/conformance.md has the same list.
pub const KNOWN: [Known; 7] = [
    Known {
        checks: "grants: map ",
        why: "there is no other domain whose frames the guest could map",
    },
    Known {
        checks: "grants: unmap ",
        why: "there is no other domain whose frames the guest could map",
    },
    Known {
        checks: "upcalls: with both vectors the global one comes",
        why: "the local APIC's interrupt may arrive first, and its handler clears the flag; real guests set only one of the two vectors",
    },
    Known {
        checks: "sched: poll ",
        why: POLL_IS_YIELD,
    },
    Known {
        checks: "sched: it lasts until the timeout",
        why: POLL_IS_YIELD,
    },
    Known {
        checks: "sched: the timer wakes it",
        why: POLL_IS_YIELD,
    },
    Known {
        checks: "sched: its port pends",
        why: POLL_IS_YIELD,
    },
];

const POLL_IS_YIELD: &str =
    "a KVM that intercepts hypercalls handles SCHEDOP_poll itself, as a yield";

/// A check whose result differs from Xen's.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Judged {
    /// The results in Xen's report and in ours.
    pub difference: Difference,
    /// The reason; `None` if it is unknown.
    pub why: Option<String>,
}

/// Compares a report with that of Xen, and returns the differences with their reasons. A check that
/// only `ours` has, and that passed, is no difference, and neither is a part that Xen's report
/// skips.
#[must_use]
pub fn judge(xen: &Tap, ours: &Tap) -> Vec<Judged> {
    let is_ok = |check: &Option<Check>| {
        let check = check.as_ref();
        check.is_some_and(|check| check.outcome == Outcome::Ok)
    };
    let has_failed = |check: &Option<Check>| {
        let check = check.as_ref();
        check.is_some_and(|check| check.outcome == Outcome::Failed)
    };
    let differences = xen.differences(ours).into_iter();
    differences
        .filter(|difference| !is_ok(&difference.second) || has_failed(&difference.first))
        .filter(|difference| !is_made_by(ours, difference))
        .map(|difference| Judged {
            why: reason(&difference, ours),
            difference,
        })
        .collect()
}

/// Tells whether Xen's report skips a part whose checks ours has.
fn is_made_by(ours: &Tap, difference: &Difference) -> bool {
    let is_skipped = |check: &Check| check.outcome == Outcome::Skipped;
    let first = difference.first.as_ref();
    let part = first
        .filter(|check| is_skipped(check))
        .and_then(part_of_skipped);
    difference.second.is_none()
        && part.is_some_and(|part| {
            let mut names = ours.checks.iter().map(|check| check.name.as_str());
            names.any(|name| name.starts_with(part))
        })
}

/// The prefix of the checks for which a skipped check stands: a whole section, or a way to start a
/// vCPU.
fn part_of_skipped(check: &Check) -> Option<&str> {
    let ends = ["all of it", "start"];
    ends.iter().find_map(|end| check.name.strip_suffix(end))
}

/// For a check that the guest skips, the reason is the guest's own; it applies to all of a skipped
/// part.
fn reason(difference: &Difference, ours: &Tap) -> Option<String> {
    let second = difference.second.as_ref();
    if let Some(check) = second.filter(|check| check.outcome == Outcome::Skipped) {
        return Some(check.note.clone());
    }
    let name = difference.name.as_str();
    if second.is_none() {
        return skipped_with(name, ours).map(|check| check.note.clone());
    }
    let (_width, name) = name.split_once(' ')?;
    let known = KNOWN.iter().find(|known| name.starts_with(known.checks));
    known.map(|known| known.why.to_owned())
}

/// The skipped check that stands for an absent one.
fn skipped_with<'a>(name: &str, ours: &'a Tap) -> Option<&'a Check> {
    let mut skipped = ours
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Skipped);
    skipped.find(|check| part_of_skipped(check).is_some_and(|part| name.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(xen: &str, ours: &str) -> Vec<(String, Option<String>)> {
        let report = |lines: &str| Tap::parse(&format!("TAP version 14\n{lines}")).unwrap();
        judge(&report(xen), &report(ours))
            .into_iter()
            .map(|judged| (judged.difference.name, judged.why))
            .collect()
    }

    #[test]
    fn what_nobody_knows_has_no_reason() {
        let found = judged(
            "ok 1 - 32 sched: yield\n",
            "not ok 1 - 32 sched: yield # got 1 want 0\n",
        );
        assert_eq!(found, [("32 sched: yield".to_owned(), None)]);
        let found = judged("ok 1 - 32 sched: yield\n", "");
        assert_eq!(found, [("32 sched: yield".to_owned(), None)]);
    }

    #[test]
    fn a_known_difference_has_its_reason_in_both_widths() {
        for width in [32, 64] {
            let name = format!("{width} grants: map of nothing");
            let found = judged(
                &format!("ok 1 - {name}\n"),
                &format!("not ok 1 - {name} # got 0 want -1\n"),
            );
            assert_eq!(found, [(name, Some(KNOWN[0].why.to_owned()))]);
        }
    }

    #[test]
    fn a_part_that_is_skipped_explains_what_is_absent() {
        let found = judged(
            "ok 1 - 32 paged: real up\nok 2 - 64 secondaries: PAE up\nok 3 - 32 paged2: x\n",
            "ok 1 - 32 paged: all of it # SKIP no paging\nok 2 - 64 secondaries: PAE start # SKIP left out\n",
        );
        let whys: Vec<_> = found
            .iter()
            .map(|(name, why)| (name.as_str(), why.as_deref()))
            .collect();
        assert_eq!(
            whys,
            [
                ("32 paged: real up", Some("no paging")),
                ("64 secondaries: PAE up", Some("left out")),
                ("32 paged2: x", None),
                ("32 paged: all of it", Some("no paging")),
                ("64 secondaries: PAE start", Some("left out")),
            ]
        );
    }

    #[test]
    fn what_passes_here_and_was_not_made_there_is_no_difference() {
        let found = judged(
            "ok 1 - 32 pae: up # SKIP left out\n",
            "ok 1 - 32 pae: up\nok 2 - 32 pae: down\n",
        );
        assert_eq!(found, []);
    }

    #[test]
    fn what_fails_there_and_passes_here_is_a_difference() {
        let found = judged(
            "not ok 1 - 32 version: version is 4.17 # got 0x00040014 want 0x00040011\n",
            "ok 1 - 32 version: version is 4.17\n",
        );
        assert_eq!(found, [("32 version: version is 4.17".to_owned(), None)]);
    }

    #[test]
    fn what_xen_skips_and_passes_here_is_no_difference() {
        let xen = "ok 1 - 32 paged: PAE start # SKIP left out\n";
        let passed = judged(xen, "ok 1 - 32 paged: PAE initialise\n");
        assert_eq!(passed, []);
        let failed = judged(xen, "not ok 1 - 32 paged: PAE initialise # got 1 want 0\n");
        assert_eq!(failed, [("32 paged: PAE initialise".to_owned(), None)]);
        let absent = judged(xen, "");
        assert_eq!(absent, [("32 paged: PAE start".to_owned(), None)]);
    }
}
