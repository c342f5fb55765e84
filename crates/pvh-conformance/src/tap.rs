//! Reads the reports of the conformance guests, and compares two reports.
//!
//! A report is TAP: a version, one line for each check, the plan at the end. The plain guest names
//! the clause of the checks that follow in a comment, and adds a block of YAML to a check that
//! failed. The reader accepts raw console output, and ignores everything before the report and all
//! lines that are not TAP. Its work and its memory are a small multiple of its input.

use core::fmt;
use std::{collections::BTreeMap, sync::Arc};

pub use crate::report::Outcome;

/// A report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tap {
    /// The checks, in their order.
    pub checks: Vec<Check>,
    /// The number of planned checks; `None` if the report ends before the plan.
    pub planned: Option<u32>,
    /// Why the guest gave up, if it did.
    pub bail_out: Option<String>,
    /// What the guest or the writer of the file says about the machine: the comments of the form
    /// `# name: value`, in their order.
    pub notes: Vec<(String, String)>,
    /// The clause of the checks that follow.
    clause: Arc<str>,
    /// The value that a block of YAML wanted, until the value that was seen completes the note.
    wanted: String,
}

/// One check.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// The result.
    pub outcome: Outcome,
    /// Its name: `<width of the caller> <section>: <what>`. Names repeat; the order distinguishes
    /// them.
    pub name: String,
    /// The values found and expected, or why it was skipped; may be empty.
    pub note: String,
    /// The clause that demands it: the text, and which part of it. Empty in a report that names no
    /// clauses.
    pub clause: Arc<str>,
}

/// The number of checks with each result.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sums {
    /// Passed: the answer is as expected.
    pub ok: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

/// A check on which two reports differ.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The name of the check. If several have this name, a number in brackets follows, counted from
    /// 1.
    pub name: String,
    /// The check in the first report, if it is there.
    pub first: Option<Check>,
    /// The check in the second report, if it is there.
    pub second: Option<Check>,
}

/// The reason why the output of a guest is not a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The first line of a report is missing.
    #[error("the output has no line \"TAP version 14\"")]
    NoBegin,
    /// A line of the report is malformed.
    #[error("line {line}: {what} is missing or out of order")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// The expected part of the line.
        what: &'static str,
    },
}

impl Tap {
    /// Reads the last report in the console output of a guest.
    ///
    /// # Errors
    ///
    /// [`TapError::NoBegin`] if there is no report; [`TapError::Malformed`] if the numbers of its
    /// checks, or its plan, are wrong.
    pub fn parse(output: &str) -> Result<Self, TapError> {
        let mut report = None;
        for (index, text) in output.lines().enumerate() {
            let text = text.trim_end_matches('\r');
            if text.ends_with("TAP version 14") {
                report = Some(Self::default());
            } else if let Some(report) = &mut report {
                let line = index.saturating_add(1);
                report
                    .read(text)
                    .map_err(|what| TapError::Malformed { line, what })?;
            }
        }
        report.ok_or(TapError::NoBegin)
    }

    fn read(&mut self, text: &str) -> Result<(), &'static str> {
        let (good, rest) = if let Some(rest) = text.strip_prefix("ok ") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("not ok ") {
            (false, rest)
        } else {
            return self.read_other(text);
        };
        let (number, rest) = rest.split_once(" - ").ok_or("the name of a check")?;
        let number: usize = number.parse().map_err(|_| "the number of a check")?;
        if number != self.checks.len().saturating_add(1) {
            return Err("the number of a check");
        }
        let (name, note) = rest.split_once(" # ").unwrap_or((rest, ""));
        let outcome = match (good, note.starts_with("SKIP")) {
            (true, true) => Outcome::Skipped,
            (true, false) => Outcome::Ok,
            (false, _) => Outcome::Failed,
        };
        let note = note.strip_prefix("SKIP ").unwrap_or(note);
        self.checks.push(Check {
            outcome,
            name: name.to_owned(),
            note: note.to_owned(),
            clause: Arc::clone(&self.clause),
        });
        Ok(())
    }

    fn read_other(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some(plan) = text.strip_prefix("1..") {
            self.planned = Some(plan.parse().map_err(|_| "the number in the plan")?);
        } else if let Some(why) = text.strip_prefix("Bail out!") {
            self.bail_out = Some(why.trim().to_owned());
        } else if let Some(clause) = text.strip_prefix("# clause ") {
            self.clause = clause.into();
        } else if let Some((name, value)) = comment(text) {
            self.notes.push((name.to_owned(), value.to_owned()));
        } else if let Some(wanted) = quoted(text, "  wanted: ") {
            wanted.clone_into(&mut self.wanted);
        } else if let Some(seen) = quoted(text, "  seen: ") {
            self.explain(seen);
        }
        Ok(())
    }

    /// Notes what the last check saw, if it failed and has no note yet.
    fn explain(&mut self, seen: &str) {
        let wanted = core::mem::take(&mut self.wanted);
        let last = self.checks.last_mut();
        if let Some(check) = last.filter(|check| check.outcome == Outcome::Failed)
            && check.note.is_empty()
        {
            check.note = format!("got {seen} want {wanted}");
        }
    }

    /// Returns the value of the first note of this name.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&str> {
        let note = self.notes.iter().find(|(known, _)| known == name);
        note.map(|(_, value)| value.as_str())
    }

    /// Tells whether the guest finished and made every planned check.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let made = u32::try_from(self.checks.len()).ok();
        self.bail_out.is_none() && self.planned.is_some() && self.planned == made
    }

    /// Counts the results.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let count = |outcome| {
            let checks = self.checks.iter();
            checks.filter(|check| check.outcome == outcome).count()
        };
        Sums {
            ok: count(Outcome::Ok),
            failed: count(Outcome::Failed),
            skipped: count(Outcome::Skipped),
        }
    }

    /// Returns the checks on which two reports differ, in the order of the first report. Checks
    /// that only the second report has come last.
    ///
    /// A check is identified by its name and its place among checks of the same name. The notes of
    /// checks are compared, too: two different wrong answers are a difference.
    #[must_use]
    pub fn differences(&self, second: &Self) -> Vec<Difference> {
        let mut theirs: BTreeMap<(&str, usize), &Check> = second.named().collect();
        let mut differences = Vec::new();
        for ((name, nth), ours) in self.named() {
            let other = theirs.remove(&(name, nth));
            if other != Some(ours) {
                differences.push(Difference::new((name, nth), Some(ours), other));
            }
        }
        let rest = second
            .named()
            .filter(|(key, _)| theirs.contains_key(key))
            .map(|(key, check)| Difference::new(key, None, Some(check)));
        differences.extend(rest);
        differences
    }

    /// Yields each check with its name and the number of earlier checks of that name.
    fn named(&self) -> impl Iterator<Item = ((&str, usize), &Check)> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        self.checks.iter().map(move |check| {
            let before = seen.entry(check.name.as_str()).or_default();
            let nth = *before;
            *before = nth.saturating_add(1);
            ((check.name.as_str(), nth), check)
        })
    }
}

/// Splits a comment of the form `# name: value`.
fn comment(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("# ")?.split_once(": ")
}

/// The value of a line of YAML with this key, which is in quotes.
fn quoted<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

impl Difference {
    fn new((name, nth): (&str, usize), first: Option<&Check>, second: Option<&Check>) -> Self {
        let name = match nth {
            0 => name.to_owned(),
            _ => format!("{name} [{}]", nth.saturating_add(1)),
        };
        Self {
            name,
            first: first.cloned(),
            second: second.cloned(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |check: &Option<Check>| match check {
            None => "absent".to_owned(),
            Some(check) if check.note.is_empty() => check.outcome.to_string(),
            Some(check) => format!("{} ({})", check.outcome, check.note),
        };
        write!(
            f,
            "{}: {} | {}",
            self.name,
            side(&self.first),
            side(&self.second)
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed => "not ok",
            Self::Skipped => "skipped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Booting..\r
TAP version 14\r
ok 1 - 32 events: send\r
not ok 2 - 32 events: close # got 0 want -22\r
(XEN) something else\r
ok 3 - 32 events: send\r
ok 4 - 32 gaps: suspend # SKIP needs the toolstack\r
1..4\r
# failed 1\r
";

    #[test]
    fn every_line_is_read() {
        let tap = Tap::parse(REPORT).unwrap();
        assert_eq!((tap.checks.len(), tap.planned), (4, Some(4)));
        let sums = tap.sums();
        assert_eq!((sums.ok, sums.failed, sums.skipped), (2, 1, 1));
        assert_eq!(tap.checks[1].name, "32 events: close");
        assert_eq!(tap.checks[1].note, "got 0 want -22");
        assert_eq!(tap.checks[3].note, "needs the toolstack");
        assert!(tap.is_complete());
    }

    const PLAIN: &str = "\
# vmm: QEMU 7.2\r
TAP version 14\r
# output: COM1\r
# clause pvh.pandoc: cr4\r
ok 1 - entry: cr4.PAE is clear\r
not ok 2 - entry: cr4.PSE is clear\r
  ---\r
  clause: \"pvh.pandoc: cr4\"\r
  wanted: \"0x00000010 clear\"\r
  seen: \"0x00000010\"\r
  ...\r
# clause pvh.pandoc: eflags\r
ok 3 - entry: eflags.IF is clear\r
1..3\r
";

    #[test]
    fn checks_have_the_clause_before_them_and_failed_ones_what_was_seen() {
        let tap = Tap::parse(PLAIN).unwrap();
        let clauses: Vec<&str> = tap.checks.iter().map(|check| &*check.clause).collect();
        let cr4 = "pvh.pandoc: cr4";
        assert_eq!(clauses, [cr4, cr4, "pvh.pandoc: eflags"]);
        assert_eq!(tap.checks[1].note, "got 0x00000010 want 0x00000010 clear");
        assert_eq!(
            (tap.checks[0].note.as_str(), tap.note("output")),
            ("", Some("COM1"))
        );
        assert_eq!(tap.note("vmm"), None, "it stands before the report");
        assert!(tap.is_complete());
    }

    #[test]
    fn a_block_without_its_check_changes_nothing() {
        let stray =
            "TAP version 14\n  seen: \"1\"\nok 1 - a\n  wanted: \"2\"\n  seen: \"3\"\n1..1\n";
        let tap = Tap::parse(stray).unwrap();
        assert_eq!((tap.checks.len(), tap.checks[0].note.as_str()), (1, ""));
    }

    #[test]
    fn a_report_that_breaks_off_is_not_complete() {
        for end in ["ok 4", "1..4"] {
            let cut = &REPORT[..REPORT.find(end).unwrap()];
            assert!(!Tap::parse(cut).unwrap().is_complete());
        }
        let short = REPORT.replace("1..4", "1..5");
        assert!(!Tap::parse(&short).unwrap().is_complete());
        let bailed = format!("{REPORT}Bail out! exception 0x0d\n");
        let tap = Tap::parse(&bailed).unwrap();
        assert!(!tap.is_complete());
        assert_eq!(tap.bail_out.unwrap(), "exception 0x0d");
    }

    #[test]
    fn malformed_lines_are_named() {
        assert_eq!(Tap::parse("ok 1 - a"), Err(TapError::NoBegin));
        for (line, what) in [
            ("ok 2 - a", "the number of a check"),
            ("ok x - a", "the number of a check"),
            ("not ok 1", "the name of a check"),
            ("1..many", "the number in the plan"),
        ] {
            let error = Tap::parse(&format!("TAP version 14\n{line}\n"));
            assert_eq!(error, Err(TapError::Malformed { line: 2, what }), "{line}");
        }
    }

    #[test]
    fn differences_are_told_by_name_and_place() {
        let first = Tap::parse(REPORT).unwrap();
        assert_eq!(first.differences(&first), []);
        let changed = REPORT
            .replace(
                "ok 3 - 32 events: send",
                "not ok 3 - 32 events: send # got 1 want 0",
            )
            .replace("ok 4 - 32 gaps: suspend", "ok 4 - 32 gaps: resume");
        let second = Tap::parse(&changed).unwrap();
        let told: Vec<String> = first
            .differences(&second)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "32 events: send [2]: ok | not ok (got 1 want 0)",
                "32 gaps: suspend: skipped (needs the toolstack) | absent",
                "32 gaps: resume: absent | skipped (needs the toolstack)",
            ]
        );
    }

    #[test]
    fn an_order_that_differs_is_no_difference() {
        let first = "TAP version 14\nok 1 - a\nok 2 - b\n1..2\n";
        let second = "TAP version 14\nok 1 - b\nok 2 - a\n1..2\n";
        let (first, second) = (Tap::parse(first).unwrap(), Tap::parse(second).unwrap());
        assert_eq!(first.differences(&second), []);
    }
}
