//! Decides whether a report is as expected, for the continuous integration of any VMM.

use std::fmt;

use crate::tap::{Difference, Outcome, Sums, Tap};

/// A report beside what was expected of it; `Display` gives a few lines.
#[derive(Debug)]
#[non_exhaustive]
pub struct Comparison {
    /// Counts of the checks.
    pub sums: Sums,
    /// Whether the report is complete.
    pub is_complete: bool,
    /// Why the guest gave up.
    pub bail_out: Option<String>,
    /// The checks whose result was not expected, with the expected check first.
    pub unexpected: Vec<Difference>,
}

impl Comparison {
    /// Compares a report with an earlier one: each check has to have the same result as then. The
    /// values of a failed check may change, and a check that is new may pass or be skipped.
    ///
    /// Without an earlier report, each check has to pass or be skipped.
    #[must_use]
    pub fn of(expected: Option<&Tap>, report: Tap) -> Self {
        let nothing = Tap::default();
        let mut unexpected = expected.unwrap_or(&nothing).differences(&report);
        unexpected.retain(|difference| {
            let outcome =
                |check: &Option<crate::tap::Check>| check.as_ref().map(|check| check.outcome);
            match (outcome(&difference.first), outcome(&difference.second)) {
                (None, second) => second == Some(Outcome::Failed),
                (first, second) => first != second,
            }
        });
        Self {
            sums: report.sums(),
            is_complete: report.is_complete(),
            bail_out: report.bail_out,
            unexpected,
        }
    }

    /// Whether the report is complete and every result expected.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.is_complete && self.unexpected.is_empty()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums {
            ok,
            failed,
            skipped,
            ..
        } = self.sums;
        writeln!(f, "{ok} ok, {failed} not ok, {skipped} skipped")?;
        if let Some(why) = &self.bail_out {
            writeln!(f, "the guest gave up: {why}")?;
        } else if !self.is_complete {
            writeln!(
                f,
                "the report is incomplete: its plan is missing or names more checks"
            )?;
        }
        match self.unexpected.len() {
            0 if self.is_complete => writeln!(f, "every result is as expected")?,
            0 => {}
            count => writeln!(f, "not expected: {count} (expected | found)")?,
        }
        for difference in self.unexpected.iter().take(SHOWN) {
            writeln!(f, "  {difference}")?;
        }
        match self.unexpected.len().checked_sub(SHOWN) {
            Some(more @ 1..) => writeln!(f, "  and {more} more"),
            _ => Ok(()),
        }
    }
}

/// The most unexpected results in the text.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(lines: &[&str]) -> Tap {
        let checks = (1..).zip(lines).map(|(number, line)| {
            let (result, name) = line.split_once(": ").unwrap();
            format!("{result} {number} - {name}\n")
        });
        let checks: String = checks.collect();
        Tap::parse(&format!("TAP version 14\n{checks}1..{}\n", lines.len())).unwrap()
    }

    fn unexpected(expected: Option<&[&str]>, report: &[&str]) -> Vec<String> {
        let expected = expected.map(tap);
        let comparison = Comparison::of(expected.as_ref(), tap(report));
        let lines = comparison.unexpected.iter().map(ToString::to_string);
        lines.collect()
    }

    #[test]
    fn without_an_expectation_each_check_has_to_pass() {
        assert_eq!(unexpected(None, &["ok: a", "ok: b # SKIP no"]), [""; 0]);
        let failed = unexpected(None, &["ok: a", "not ok: b # got 1 want 0"]);
        assert_eq!(failed, ["b: absent | not ok (got 1 want 0)"]);
    }

    #[test]
    fn a_result_that_changed_is_unexpected_in_either_direction() {
        let before: &[&str] = &["ok: a", "not ok: b # got 1 want 0"];
        assert_eq!(unexpected(Some(before), before), [""; 0]);
        let worse = unexpected(
            Some(before),
            &["not ok: a # got 2 want 0", "not ok: b # got 1 want 0"],
        );
        assert_eq!(worse, ["a: ok | not ok (got 2 want 0)"]);
        let better = unexpected(Some(before), &["ok: a", "ok: b"]);
        assert_eq!(better, ["b: not ok (got 1 want 0) | ok"]);
        let gone = unexpected(Some(before), &["ok: a"]);
        assert_eq!(gone, ["b: not ok (got 1 want 0) | absent"]);
    }

    #[test]
    fn other_values_of_a_failed_check_and_new_checks_that_pass_are_expected() {
        let before: &[&str] = &["not ok: b # got 1 want 0"];
        assert_eq!(
            unexpected(Some(before), &["not ok: b # got 9 want 0"]),
            [""; 0]
        );
        let new: &[&str] = &["not ok: b # got 1 want 0", "ok: c", "ok: d # SKIP no"];
        assert_eq!(unexpected(Some(before), new), [""; 0]);
        let failing = unexpected(Some(before), &["not ok: b", "not ok: c"]);
        assert_eq!(failing, ["c: absent | not ok"]);
    }

    #[test]
    fn an_incomplete_report_is_never_as_expected() {
        let cut = Tap::parse("TAP version 14\nok 1 - a\n").unwrap();
        let comparison = Comparison::of(Some(&cut), cut.clone());
        assert!(!comparison.is_as_expected());
        assert!(comparison.to_string().contains("the report is incomplete"));
    }
}
