//! Reads the reports of the demo and soak guests.
//!
//! A report has lines of `key: value`, or `key: name=0x... name=0x...`. The reader accepts raw
//! console output: firmware may have written before the report, and unknown lines are ignored.

use std::collections::BTreeMap;

use pvh_abi::{Gpa, start_info::MemmapKind};

mod line;

/// The report of a guest: what it found, and its verdicts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Registers at the first instruction, by their name: `eax`, `cr0`, `cs`, `gdtr_limit`,
    /// `efer`...
    pub registers: BTreeMap<String, u64>,
    /// Fields of the start-of-day structure, by their name: `version`, `flags`, `rsdp`...
    pub start_info: BTreeMap<String, u64>,
    /// The command line, if one was given and could be read.
    pub cmdline: Option<Text>,
    /// The memory map, in the order of its entries.
    pub memory: Vec<MemoryRange>,
    /// The modules, in their order.
    pub modules: Vec<Module>,
    /// The verdicts, one for each clause.
    pub checks: Vec<Check>,
    /// The exceptions that the guest took.
    pub exceptions: Vec<Exception>,
    /// The ways in which the guest tried to power off, in order, or why it could not.
    pub power_off: Vec<String>,
    /// The final verdict; `None` if the report ends before it.
    pub verdict: Option<Verdict>,
}

/// A string from guest memory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Text {
    /// Its bytes, without the NUL.
    pub bytes: Vec<u8>,
    /// Whether the string was longer than the guest prints.
    pub cut: bool,
}

/// One entry of the memory map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MemoryRange {
    /// Where it begins.
    pub start: Gpa,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Its kind.
    pub kind: MemmapKind,
}

/// One module.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Module {
    /// Where it begins.
    pub start: Gpa,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Sums of its bytes, unless the guest cannot reach it.
    pub sums: Option<Sums>,
    /// Its command line, if it has one that could be read.
    pub cmdline: Option<Text>,
}

/// Sums of the bytes at both ends of a module. They show that the module arrived complete and
/// unmixed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sums {
    /// The sum of the first 64 KiB, or of all.
    pub head: u32,
    /// The sum of the last 4 KiB, or of all.
    pub tail: u32,
}

/// A verdict on one clause.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// The result.
    pub outcome: Outcome,
    /// The clause; for a skipped check the reason follows.
    pub clause: String,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a check has no fourth result")]
pub enum Outcome {
    /// The clause holds.
    Ok,
    /// The clause does not hold.
    Failed,
    /// The clause cannot be checked on this machine.
    Skipped,
}

/// An exception that stopped the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Exception {
    /// Its vector, 0 to 31.
    pub vector: u8,
    /// Its error code, 0 if it has none.
    pub error: u32,
    /// The address of the instruction.
    pub eip: u32,
}

/// The final verdict of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "either nothing failed or something did"
)]
pub enum Verdict {
    /// No check failed.
    Ok,
    /// The number of checks that failed.
    Failed(u32),
}

/// The reason why the output of a guest is not a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The first line of a report is missing.
    #[error("the output has no line \"PVH demo: begin\"")]
    NoBegin,
    /// A line of the report is incomplete or malformed.
    #[error("line {line}: {what} is missing or malformed")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// The expected part of the line.
        what: &'static str,
    },
}

impl Report {
    /// Reads the last report in the console output of a guest.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoBegin`] if there is no report; [`ReportError::Malformed`] if a line cannot
    /// be read.
    pub fn parse(output: &str) -> Result<Self, ReportError> {
        let mut report = None;
        for (index, text) in output.lines().enumerate() {
            let text = text.trim_end_matches('\r');
            if text.ends_with("PVH demo: begin") {
                report = Some(Self::default());
            } else if let Some(report) = &mut report {
                let line = index.saturating_add(1);
                line::read(report, text).map_err(|what| ReportError::Malformed { line, what })?;
            }
        }
        report.ok_or(ReportError::NoBegin)
    }

    /// Returns the clauses whose check failed.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        let failed = |check: &&Check| check.outcome == Outcome::Failed;
        self.checks
            .iter()
            .filter(failed)
            .map(|check| check.clause.as_str())
    }
}

impl Sums {
    /// Sums the bytes of a module as the guest does.
    #[must_use]
    pub fn of(module: &[u8]) -> Self {
        let sum = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()))
        };
        let head = module.get(..HEAD_BYTES).unwrap_or(module);
        let skipped = module.len().saturating_sub(TAIL_BYTES);
        let tail = module.get(skipped..).unwrap_or(module);
        Self {
            head: sum(head),
            tail: sum(tail),
        }
    }
}

const HEAD_BYTES: usize = 64 << 10;
const TAIL_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Booting from ROM..\r
PVH demo: begin\r
registers: eax=0x00000000 ebx=0x00006000\r
registers: gdtr_base=0x00000000 gdtr_limit=0x0000\r
check ok: cr0: PE is set and every other writable bit clear\r
check failed: cr4: every bit is clear\r
check skipped: rsdp: points to an ACPI root pointer: none is given\r
start info: version=0x00000001 flags=0x00000000\r
start info: rsdp=0x00000000000f59e0\r
command line: \"console=ttyS0 \\x22x\\x22 \\xff\"\r
memory: start=0x0000000000000000 size=0x0000000012c00000 type=0x01\r
memory: start=0x00000000fc000000 size=0x0000000000001000 type=0x04\r
module: start=0x0000000000200000 size=0x00000000000186a1 head_sum=0x00030000 tail_sum=0x00003000 cmdline=\"a b\"...\r
module: start=0x0000000100000000 size=0x0000000000000005 cmdline=none\r
something else\r
exception: vector=0x0d error=0x00000008 eip=0x00100c13\r
PVH demo: failed checks: 1\r
power off: none: no RSDP\r
";

    #[test]
    fn every_line_is_read() {
        let report = Report::parse(REPORT).unwrap();
        assert_eq!(report.registers["ebx"], 0x6000);
        assert_eq!(report.registers["gdtr_limit"], 0);
        assert_eq!(report.start_info["version"], 1);
        assert_eq!(report.start_info["rsdp"], 0x000f_59e0);
        assert_eq!(
            report.cmdline.clone().unwrap().bytes,
            b"console=ttyS0 \"x\" \xff"
        );
        assert_eq!(report.memory[1].start, Gpa(0xfc00_0000));
        assert_eq!(report.memory[1].kind, MemmapKind::NVS);
        assert_eq!(report.modules[0].sums, Some(Sums::of(&[3; 100_001])));
        let cmdline = report.modules[0].cmdline.clone().unwrap();
        assert_eq!((cmdline.bytes, cmdline.cut), (b"a b".to_vec(), true));
        assert_eq!(
            (report.modules[1].sums, &report.modules[1].cmdline),
            (None, &None)
        );
        assert_eq!(
            report.failures().collect::<Vec<_>>(),
            ["cr4: every bit is clear"]
        );
        assert_eq!(report.exceptions[0].vector, 13);
        assert_eq!(report.power_off, ["none: no RSDP"]);
        assert_eq!(report.verdict, Some(Verdict::Failed(1)));
    }

    #[test]
    fn the_last_of_two_reports_counts() {
        let twice = format!("{REPORT}PVH demo: begin\nPVH demo: ok\n");
        let report = Report::parse(&twice).unwrap();
        assert_eq!(report.verdict, Some(Verdict::Ok));
        assert!(report.checks.is_empty());
    }

    #[test]
    fn output_without_a_report_is_an_error() {
        assert_eq!(
            Report::parse("Linux version 6.12"),
            Err(ReportError::NoBegin)
        );
    }

    #[test]
    fn a_report_that_breaks_off_has_no_verdict_or_is_an_error() {
        let full = Report::parse(REPORT).unwrap();
        for cut in 0..REPORT.find("power off").unwrap() {
            match Report::parse(&REPORT[..cut]) {
                Ok(report) => assert!(report.verdict.is_none() || report.verdict == full.verdict),
                Err(ReportError::NoBegin) => assert!(cut < 40),
                Err(ReportError::Malformed { line, .. }) => assert!((3..=17).contains(&line)),
            }
        }
    }

    #[test]
    fn malformed_lines_are_named() {
        for (line, what) in [
            ("registers: eax", "name=value"),
            ("registers: eax=12", "a hexadecimal number"),
            ("memory: start=0x1 size=0x2", "type"),
            (
                "memory: start=0x1 size=0x2 type=0x100000000",
                "a 32-bit number",
            ),
            ("module: start=0x1 size=0x2", "cmdline"),
            ("command line: \"open", "a string in quotes"),
            ("command line: \"\\xg0\"", "an escaped byte"),
            ("check maybe: x", "the outcome of a check"),
            (
                "PVH demo: failed checks: many",
                "the number of failed checks",
            ),
            (
                "exception: vector=0x100 error=0x0 eip=0x0",
                "an 8-bit number",
            ),
        ] {
            let error = Report::parse(&format!("PVH demo: begin\n{line}\n"));
            assert_eq!(
                error,
                Err(ReportError::Malformed { line: 2, what }),
                "{line}"
            );
        }
    }
}
