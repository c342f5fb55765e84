//! The result of a run of the conformance guest, for people: sums, and differences from Xen.

use std::fmt;

use crate::{
    known::{Judged, judge},
    reference::XEN_4_17,
    selection::Selection,
    tap::{Outcome, Sums, Tap},
};

/// The result of a run; `Display` gives a few lines.
#[derive(Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Counts of the checks.
    pub sums: Sums,
    /// Whether the report is complete.
    pub is_complete: bool,
    /// Why the guest gave up.
    pub bail_out: Option<String>,
    /// All differences from Xen.
    pub judged: Vec<Judged>,
    /// The name of that Xen.
    pub reference: &'static str,
}

impl Summary {
    /// Compares two reports. Checks that were not selected do not count as missing.
    #[must_use]
    pub fn of(xen: &Tap, ours: Tap, selection: &Selection<'_>) -> Self {
        let mut judged = judge(xen, &ours);
        judged.retain(|judged| {
            judged.difference.second.is_some() || selection.covers(&judged.difference.name)
        });
        Self {
            sums: ours.sums(),
            is_complete: ours.is_complete(),
            judged,
            bail_out: ours.bail_out,
            reference: XEN_4_17.name,
        }
    }

    /// Names the Xen that the report was compared with; Xen 4.17.5 unless called.
    #[must_use]
    pub fn against(self, reference: &'static str) -> Self {
        Self { reference, ..self }
    }

    /// The differences without a known reason.
    pub fn unexplained(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| judged.why.is_none())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums {
            ok,
            failed,
            skipped,
            ..
        } = self.sums;
        writeln!(
            f,
            "conformance guest: {ok} ok, {failed} not ok, {skipped} skipped"
        )?;
        if let Some(why) = &self.bail_out {
            writeln!(f, "the guest gave up: {why}")?;
        } else if !self.is_complete {
            writeln!(f, "the report is incomplete")?;
        }
        let explained = self.judged.len().saturating_sub(self.unexplained().count());
        writeln!(
            f,
            "against {}: {} unexplained differences, {explained} explained",
            self.reference,
            self.unexplained().count()
        )?;
        for judged in self.unexplained().take(SHOWN_DIFFERENCES) {
            writeln!(f, "  {}", judged.difference)?;
        }
        if let Some(more) = self
            .unexplained()
            .count()
            .checked_sub(SHOWN_DIFFERENCES)
            .filter(|more| *more > 0)
        {
            writeln!(f, "  and {more} more; --json lists all")?;
        }
        let failed = |judged: &&Judged| {
            let second = judged.difference.second.as_ref();
            second.is_some_and(|check| check.outcome == Outcome::Failed) && judged.why.is_some()
        };
        let mut rest = explained;
        // Each reason once, with the number of checks that it explains.
        let mut reasons: Vec<(&str, &str, u32)> = Vec::new();
        for judged in self.judged.iter().filter(failed) {
            let why = judged.why.as_deref().unwrap_or_default();
            match reasons.iter_mut().find(|(reason, ..)| *reason == why) {
                Some((.., count)) => *count = count.saturating_add(1),
                None => reasons.push((why, &judged.difference.name, 1)),
            }
            rest = rest.saturating_sub(1);
        }
        for (why, first, count) in reasons {
            match count {
                1 => writeln!(f, "  explained: {first}: {why}")?,
                _ => writeln!(f, "  explained: {count} checks, such as {first}: {why}")?,
            }
        }
        if rest > 0 {
            writeln!(
                f,
                "  explained: {rest} checks this host cannot run; --json lists all"
            )?;
        }
        Ok(())
    }
}

/// The most unexplained differences in the text.
const SHOWN_DIFFERENCES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xen: &str, ours: &str, cmdline: &str) -> Summary {
        let report = |lines: &str| Tap::parse(&format!("TAP version 14\n{lines}")).unwrap();
        let selection = Selection::parse(cmdline).unwrap();
        Summary::of(&report(xen), report(ours), &selection)
    }

    fn summary(xen: &str, ours: &str) -> Summary {
        of(xen, ours, "")
    }

    #[test]
    fn only_selected_checks_are_missing() {
        let xen = "ok 1 - 32 sched: yield\nok 2 - 32 fifo: up\n1..2\n";
        let ours = "ok 1 - 32 sched: yield\n1..1\n";
        let unexplained = |cmdline| of(xen, ours, cmdline).unexplained().count();
        assert_eq!(unexplained("only=sched"), 0);
        assert_eq!(unexplained("only=sched,fifo"), 1);
    }

    #[test]
    fn a_difference_is_a_line_and_an_incomplete_report_is_said() {
        let xen = "ok 1 - 32 sched: yield\n1..1\n";
        let text = summary(xen, "not ok 1 - 32 sched: yield # got 1 want 0\n").to_string();
        for line in [
            "conformance guest: 0 ok, 1 not ok, 0 skipped",
            "the report is incomplete",
            "1 unexplained differences",
            "  32 sched: yield: ok | not ok (got 1 want 0)",
        ] {
            assert!(text.contains(line), "{line:?}: {text}");
        }
    }

    #[test]
    fn a_reason_for_many_differences_is_printed_once() {
        let report = |end: &str, word: &str| {
            let checks = (1..=3).map(|n| format!("{word} {n} - 64 grants: map {n}{end}\n"));
            checks.chain(["1..3\n".to_owned()]).collect::<String>()
        };
        let summary = summary(&report("", "ok"), &report(" # got 0 want -1", "not ok"));
        let text = summary.to_string();
        assert!(
            text.contains("  explained: 3 checks, such as 64 grants: map 1: "),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
