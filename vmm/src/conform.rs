//! `pvh-vmm conform`: runs the conformance guest and reports differences from real Xen.
//!
//! The guest runs in a second process of this program, which reads that process's output.

mod guest;

use std::{
    fmt::{self, Display},
    io::{self, Write},
};

use pvh_conformance::{
    known::{Judged, judge},
    report_of_xen,
    selection::Selection,
    tap::{Check, Outcome, Sums, Tap},
};
use serde_json::{Value, json};

use crate::{
    args::ConformArguments,
    exit::{ARGUMENTS, CRASHED, DIFFERS, HOST, SUCCESS, complain, signalled},
};
use guest::{Boot, boot};

/// Runs the guest, prints the differences and returns the exit code.
pub(crate) fn run(arguments: &ConformArguments) -> u8 {
    let cmdline = arguments.cmdline.to_string_lossy();
    let selection = match Selection::parse(&cmdline) {
        Ok(selection) => selection,
        Err(error) => {
            complain(&format!("--cmdline: {error}"));
            return ARGUMENTS;
        }
    };
    let (output, code) = match boot(arguments) {
        Ok(Boot::Ran(output, code)) => (output, code),
        Ok(Boot::Signal(number)) => return signalled(number),
        Err(error) => {
            complain(&format!("cannot start the conformance guest: {error}"));
            return HOST;
        }
    };
    if code != SUCCESS && output.is_empty() {
        // The second process has printed why.
        return code;
    }
    let reports = Tap::parse(report_of_xen()).and_then(|xen| Ok((xen, Tap::parse(&output)?)));
    let (xen, ours) = match reports {
        Ok(reports) => reports,
        Err(error) => {
            complain(&format!(
                "cannot read the conformance guest's report: {error}"
            ));
            return CRASHED;
        }
    };
    let summary = Summary::of(&xen, ours, &selection);
    let page = if arguments.json {
        summary.json().to_string()
    } else {
        summary.to_string()
    };
    match writeln!(io::stdout(), "{}", page.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"));
            HOST
        }
        _ => summary.exit_code(),
    }
}

/// The result of a run.
#[derive(Debug)]
struct Summary {
    sums: Sums,
    is_complete: bool,
    bail_out: Option<String>,
    /// All differences from Xen.
    judged: Vec<Judged>,
}

impl Summary {
    /// Compares two reports. Checks that were not selected do not count as missing.
    fn of(xen: &Tap, ours: Tap, selection: &Selection<'_>) -> Self {
        let mut judged = judge(xen, &ours);
        judged.retain(|judged| {
            judged.difference.second.is_some() || selection.covers(&judged.difference.name)
        });
        Self {
            sums: ours.sums(),
            is_complete: ours.is_complete(),
            judged,
            bail_out: ours.bail_out,
        }
    }

    /// The differences without a known reason.
    fn unexplained(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| judged.why.is_none())
    }

    fn exit_code(&self) -> u8 {
        if !self.is_complete {
            CRASHED
        } else if self.unexplained().next().is_some() {
            DIFFERS
        } else {
            SUCCESS
        }
    }

    fn json(&self) -> Value {
        let differences: Vec<Value> = self.judged.iter().map(difference).collect();
        json!({
            "checks": { "ok": self.sums.ok, "failed": self.sums.failed, "skipped": self.sums.skipped },
            "complete": self.is_complete,
            "bail_out": self.bail_out,
            "reference": REFERENCE,
            "unexplained": self.unexplained().count(),
            "differences": differences,
        })
    }
}

impl Display for Summary {
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
            "against {REFERENCE}: {} unexplained differences, {explained} explained",
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

fn difference(judged: &Judged) -> Value {
    let side = |check: &Option<Check>| match check {
        Some(check) => json!({ "outcome": check.outcome.to_string(), "note": check.note }),
        None => Value::Null,
    };
    json!({
        "check": judged.difference.name,
        "xen": side(&judged.difference.first),
        "here": side(&judged.difference.second),
        "why": judged.why,
    })
}

const REFERENCE: &str = "Xen 4.17.5";
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
    fn checks_that_were_not_selected_are_not_missing() {
        let xen = "ok 1 - 32 sched: yield\nok 2 - 32 fifo: up\n1..2\n";
        let ours = "ok 1 - 32 sched: yield\n1..1\n";
        let code = |cmdline| of(xen, ours, cmdline).exit_code();
        assert_eq!((code("only=sched"), code("")), (0, 1));
        assert_eq!(
            code("only=sched,fifo"),
            1,
            "a selected section that did not run is missing"
        );
    }

    #[test]
    fn a_report_equal_to_xen_s_is_a_success() {
        let lines = "ok 1 - 32 sched: yield\n1..1\n";
        let summary = summary(lines, lines);
        assert_eq!(summary.exit_code(), 0);
        let text = summary.to_string();
        assert!(text.contains("1 ok, 0 not ok, 0 skipped"), "{text}");
        assert!(text.contains("0 unexplained differences"), "{text}");
    }

    #[test]
    fn a_difference_without_a_reason_is_reported_and_fails() {
        let ours = "not ok 1 - 32 sched: yield # got 1 want 0\n1..1\n";
        let summary = summary("ok 1 - 32 sched: yield\n1..1\n", ours);
        assert_eq!(summary.exit_code(), 1);
        let text = summary.to_string();
        assert!(
            text.contains("  32 sched: yield: ok | not ok (got 1 want 0)"),
            "{text}"
        );
        let json = summary.json();
        assert_eq!(json["unexplained"], 1);
        assert_eq!(json["differences"][0]["here"]["note"], "got 1 want 0");
        assert_eq!(json["differences"][0]["why"], Value::Null);
    }

    #[test]
    fn a_known_difference_is_reported_with_its_reason() {
        let ours = "not ok 1 - 64 grants: map of it # got 0 want -1\n1..1\n";
        let summary = summary("ok 1 - 64 grants: map of it\n1..1\n", ours);
        assert_eq!(summary.exit_code(), 0);
        assert!(
            summary
                .to_string()
                .contains("explained: 64 grants: map of it: ")
        );
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

    #[test]
    fn an_incomplete_report_is_a_crash() {
        let summary = summary("ok 1 - 32 sched: yield\n1..1\n", "ok 1 - 32 sched: yield\n");
        assert_eq!(summary.exit_code(), 5);
        assert!(summary.to_string().contains("the report is incomplete"));
    }
}
