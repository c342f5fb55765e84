//! `pvh-vmm conform`: runs the conformance guest and reports differences from real Xen.
//!
//! The guest runs in a second process of this program, which reads that process's output.

mod guest;

pub(crate) use guest::MACHINE;

use pvh_config::{
    ConformArguments,
    exit::{ARGUMENTS, CRASHED, DIFFERS, HOST, SUCCESS, signalled},
};
use pvh_conformance::{
    conformance_image,
    known::Judged,
    reference::{Reference, XEN_4_17},
    selection::Selection,
    summary::Summary,
    tap::{Check, Sums, Tap},
};
use serde_json::{Value, json};

use crate::{
    exit::{complain, print},
    write_out,
};
use guest::{Boot, boot};

/// Runs the guest, prints the differences and returns the exit code.
pub(crate) fn run(arguments: &ConformArguments) -> u8 {
    if let Some(path) = &arguments.write {
        return write_out::guest(path, conformance_image());
    }
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
    let release = arguments.xen_version.answers().release;
    let reference = Reference::of(release).unwrap_or(XEN_4_17);
    let reports = Tap::parse(reference.report).and_then(|xen| Ok((xen, Tap::parse(&output)?)));
    let (xen, ours) = match reports {
        Ok(reports) => reports,
        Err(error) => {
            complain(&format!(
                "cannot read the conformance guest's report: {error}"
            ));
            return CRASHED;
        }
    };
    let summary = Summary::of(&xen, ours, &selection).against(reference.name);
    let page = if arguments.json {
        json(&summary).to_string()
    } else {
        summary.to_string()
    };
    print(&page, exit_code(&summary))
}

fn exit_code(summary: &Summary) -> u8 {
    if !summary.is_complete {
        CRASHED
    } else if summary.unexplained().next().is_some() {
        DIFFERS
    } else {
        SUCCESS
    }
}

fn json(summary: &Summary) -> Value {
    let Sums {
        ok,
        failed,
        skipped,
        ..
    } = summary.sums;
    let differences: Vec<Value> = summary.judged.iter().map(difference).collect();
    json!({
        "checks": { "ok": ok, "failed": failed, "skipped": skipped },
        "complete": summary.is_complete,
        "bail_out": summary.bail_out,
        "reference": summary.reference,
        "unexplained": summary.unexplained().count(),
        "differences": differences,
    })
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
        let code = |cmdline| exit_code(&of(xen, ours, cmdline));
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
        assert_eq!(exit_code(&summary), 0);
        let text = summary.to_string();
        assert!(text.contains("1 ok, 0 not ok, 0 skipped"), "{text}");
        assert!(text.contains("0 unexplained differences"), "{text}");
    }

    #[test]
    fn a_difference_without_a_reason_is_reported_and_fails() {
        let ours = "not ok 1 - 32 sched: yield # got 1 want 0\n1..1\n";
        let summary = summary("ok 1 - 32 sched: yield\n1..1\n", ours);
        assert_eq!(exit_code(&summary), 1);
        let text = summary.to_string();
        assert!(
            text.contains("  32 sched: yield: ok | not ok (got 1 want 0)"),
            "{text}"
        );
        let json = json(&summary);
        assert_eq!(json["unexplained"], 1);
        assert_eq!(json["differences"][0]["here"]["note"], "got 1 want 0");
        assert_eq!(json["differences"][0]["why"], Value::Null);
    }

    #[test]
    fn a_known_difference_is_reported_with_its_reason() {
        let ours = "not ok 1 - 64 grants: map of it # got 0 want -1\n1..1\n";
        let summary = summary("ok 1 - 64 grants: map of it\n1..1\n", ours);
        assert_eq!(exit_code(&summary), 0);
        assert!(
            summary
                .to_string()
                .contains("explained: 64 grants: map of it: ")
        );
    }

    #[test]
    fn an_incomplete_report_is_a_crash() {
        let summary = summary("ok 1 - 32 sched: yield\n1..1\n", "ok 1 - 32 sched: yield\n");
        assert_eq!(exit_code(&summary), 5);
        assert!(summary.to_string().contains("the report is incomplete"));
    }
}
