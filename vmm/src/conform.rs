//! `pvh-vmm conform`: runs the conformance guest, and says what does not come out here as on Xen.
//!
//! The guest runs in a process of its own, which is this program again: what it prints is then read like anybody's output.

use std::{
    env,
    fmt::{self, Display},
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    process::{self, Command, Stdio},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pvh_conformance::{
    conformance_image,
    known::{Judged, judge},
    report_of_xen,
    tap::{Check, Outcome, Sums, Tap},
};
use serde_json::{Value, json};

use crate::{
    args::{CONFORM_CMDLINE, ConformArguments},
    exit::{ARGUMENTS, CRASHED, DIFFERS, HOST, SUCCESS, complain},
};

/// Runs the guest, prints what came of it and returns the exit code.
pub(crate) fn run(arguments: &ConformArguments) -> u8 {
    let cmdline = arguments.cmdline.to_string_lossy();
    if let Some(name) = unknown_section(&cmdline, report_of_xen()) {
        complain(&format!(
            "--cmdline: there is no section '{name}'; docs/conformance.md names some"
        ));
        return ARGUMENTS;
    }
    let (output, code) = match boot(arguments) {
        Ok(ran) => ran,
        Err(error) => {
            complain(&format!("the conformance guest cannot be started: {error}"));
            return HOST;
        }
    };
    if code != SUCCESS && output.is_empty() {
        // The other process has said why.
        return code;
    }
    let reports = Tap::parse(report_of_xen()).and_then(|xen| Ok((xen, Tap::parse(&output)?)));
    let (xen, ours) = match reports {
        Ok(reports) => reports,
        Err(error) => {
            complain(&format!("the conformance guest's report: {error}"));
            return CRASHED;
        }
    };
    let is_part = arguments.cmdline != CONFORM_CMDLINE;
    let summary = Summary::of(&xen, ours, is_part);
    let page = if arguments.json {
        summary.json().to_string()
    } else {
        summary.to_string()
    };
    match writeln!(io::stdout(), "{}", page.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("standard output: {error}"));
            HOST
        }
        _ => summary.exit_code(),
    }
}

/// Boots the guest in another process; returns what it printed and that process' exit code.
fn boot(arguments: &ConformArguments) -> io::Result<(String, u8)> {
    let mut image = File::from(memfd_create(c"conformance", MFdFlags::MFD_CLOEXEC)?);
    image.write_all(conformance_image())?;
    let path = format!("/proc/{}/fd/{}", process::id(), image.as_raw_fd());
    let mut child = Command::new(env::current_exe()?)
        .args(["run", &path])
        .args(MACHINE)
        .arg("--cmdline")
        .arg(&arguments.cmdline)
        .arg("--kvm-device")
        .arg(&arguments.kvm_device)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(REPORT_LIMIT_BYTES).read_to_end(&mut output),
        None => Ok(0),
    };
    let status = child.wait()?;
    read?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let text = String::from_utf8_lossy(&output).into_owned();
    Ok((text, code.unwrap_or(CRASHED)))
}

/// What there is to say.
#[derive(Debug)]
struct Summary {
    sums: Sums,
    is_complete: bool,
    bail_out: Option<String>,
    /// What did not come out as on Xen.
    judged: Vec<Judged>,
}

impl Summary {
    /// Of a part, the sections that were left out are not compared.
    fn of(xen: &Tap, ours: Tap, is_part: bool) -> Self {
        let ran = |name: &str| {
            let mut names = ours.checks.iter().map(|check| check.name.as_str());
            names.any(|other| section(other) == section(name))
        };
        let mut judged = judge(xen, &ours);
        judged.retain(|judged| !is_part || ran(&judged.difference.name));
        Self {
            sums: ours.sums(),
            is_complete: ours.is_complete(),
            judged,
            bail_out: ours.bail_out,
        }
    }

    /// What differs and nobody knows why.
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
            writeln!(f, "the report breaks off")?;
        }
        let explained = self.judged.len().saturating_sub(self.unexplained().count());
        writeln!(
            f,
            "against {REFERENCE}: {} differ and are not explained, {explained} are",
            self.unexplained().count()
        )?;
        for judged in self.unexplained().take(SHOWN) {
            writeln!(f, "  {}", judged.difference)?;
        }
        if let Some(more) = self
            .unexplained()
            .count()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            writeln!(f, "  and {more} more; --json lists all")?;
        }
        let failed = |judged: &&Judged| {
            let second = judged.difference.second.as_ref();
            second.is_some_and(|check| check.outcome == Outcome::Failed) && judged.why.is_some()
        };
        let mut rest = explained;
        for judged in self.judged.iter().filter(failed) {
            let why = judged.why.as_deref().unwrap_or_default();
            writeln!(f, "  explained: {}: {why}", judged.difference.name)?;
            rest = rest.saturating_sub(1);
        }
        if rest > 0 {
            writeln!(
                f,
                "  explained: {rest} that this host cannot make; --json lists all"
            )?;
        }
        Ok(())
    }
}

/// The first name behind `only=` or `no=` that is no section's.
fn unknown_section<'a>(cmdline: &'a str, report: &str) -> Option<&'a str> {
    let lists = cmdline
        .split(' ')
        .filter_map(|word| word.strip_prefix("only=").or(word.strip_prefix("no=")));
    lists.flat_map(|list| list.split(',')).find(|name| {
        let is_in_report = report.contains(&format!(" - 32 {name}: "));
        !is_in_report && !MORE_SECTIONS.contains(name)
    })
}

/// The width and section that a check is of.
fn section(name: &str) -> &str {
    name.split_once(": ")
        .map_or(name, |(section, _what)| section)
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
/// The machine that the guest is made for.
const MACHINE: [&str; 10] = [
    "--platform",
    "xen",
    "--cpus",
    "4",
    "--memory",
    "64M",
    "--load",
    "copy",
    "--cache",
    "none",
];
/// What a command line can name besides the sections that the checks' names begin with.
const MORE_SECTIONS: [&str; 3] = ["pae", "user", "wide"];
/// How many differences a person reads.
const SHOWN: usize = 40;
/// The report is some 150 KiB.
const REPORT_LIMIT_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(xen: &str, ours: &str) -> Summary {
        let report = |lines: &str| Tap::parse(&format!("TAP version 14\n{lines}")).unwrap();
        Summary::of(&report(xen), report(ours), false)
    }

    #[test]
    fn of_a_part_what_was_left_out_is_not_compared() {
        let xen = "ok 1 - 32 sched: yield\nok 2 - 32 fifo: up\n1..2\n";
        let ours = "ok 1 - 32 sched: yield\n1..1\n";
        let parse = |lines: &str| Tap::parse(&format!("TAP version 14\n{lines}")).unwrap();
        let part = |is_part| Summary::of(&parse(xen), parse(ours), is_part).exit_code();
        assert_eq!((part(true), part(false)), (0, 1));
    }

    #[test]
    fn a_section_that_does_not_exist_is_told() {
        let report = report_of_xen();
        for cmdline in ["", "no=pae", "only=events,fifo,wide", "no=user only=paged"] {
            assert_eq!(unknown_section(cmdline, report), None, "{cmdline}");
        }
        assert_eq!(unknown_section("only=events,evens", report), Some("evens"));
        assert_eq!(unknown_section("no=", report), Some(""));
    }

    #[test]
    fn a_report_like_xen_s_is_a_success() {
        let lines = "ok 1 - 32 sched: yield\n1..1\n";
        let summary = summary(lines, lines);
        assert_eq!(summary.exit_code(), 0);
        let text = summary.to_string();
        assert!(text.contains("1 ok, 0 not ok, 0 skipped"), "{text}");
        assert!(text.contains("0 differ"), "{text}");
    }

    #[test]
    fn a_difference_without_a_reason_is_told_and_fails() {
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
    fn a_known_difference_is_told_with_its_reason() {
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
    fn a_report_that_breaks_off_is_a_crash() {
        let summary = summary("ok 1 - 32 sched: yield\n1..1\n", "ok 1 - 32 sched: yield\n");
        assert_eq!(summary.exit_code(), 5);
        assert!(summary.to_string().contains("the report breaks off"));
    }
}
