//! What the output of the fuzz guest says.

use std::fmt;

use super::drive::End;

/// The result of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Answer {
    /// The number of the step.
    pub step: u32,
    /// What it does: `call`, `port` and so on, perhaps with a point and the vCPU that did it.
    pub kind: String,
    /// Its arguments in short.
    pub arguments: String,
    /// `=` and a value, or `!` and the vector of an exception.
    pub result: String,
}

/// The output, as far as the guest came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Log {
    /// The guest has begun, and found Xen or not.
    pub is_xen: Option<bool>,
    /// The steps that are over.
    pub answers: Vec<Answer>,
    /// The step that began and is not over.
    pub open: Option<(u32, String)>,
    /// The guest's own report that it failed.
    pub failed: Option<String>,
    /// All steps are over.
    pub is_complete: bool,
}

impl Log {
    /// Reads the lines that begin with `#`; others come from the hypervisor's console.
    #[must_use]
    pub fn parse(output: &str) -> Self {
        let mut log = Self::default();
        for line in output.lines() {
            if let Some(line) = line.trim_end().strip_prefix('#') {
                log.line(line);
            }
        }
        log
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("fuzz ") {
            self.is_xen = Some(rest.starts_with("xen"));
            return;
        }
        if let Some(why) = line.strip_prefix("failed: ") {
            self.failed = Some(why.to_owned());
            return;
        }
        if line == "end" {
            self.is_complete = true;
            self.open = None;
            return;
        }
        let mut words = line.split(' ');
        let step = words.next().and_then(|word| word.parse().ok());
        let (Some(step), Some(kind)) = (step, words.next()) else {
            return;
        };
        let arguments = words.next().unwrap_or_default();
        let open = format!("{kind} {arguments}");
        match words.next() {
            Some(result) if result.starts_with(['=', '!']) => {
                self.open = None;
                self.answers.push(Answer {
                    step,
                    kind: kind.to_owned(),
                    arguments: arguments.to_owned(),
                    result: result.to_owned(),
                });
            }
            _ => self.open = Some((step, open)),
        }
    }

    /// Judges a run: `None` if the guest carried out all steps and powered off.
    #[must_use]
    pub fn failure(&self, end: &End) -> Option<Failure> {
        let at = self.open.clone();
        let kind = match end {
            _ if self.is_xen.is_none() => "the fuzz guest did not start in this VMM",
            End::Silent => "hang: the guest printed nothing for the time of --silence",
            End::Endless => "output without end",
            End::Grew => "growth: the VMM uses more memory than --memory-limit",
            End::Signal(_) => "crash: a signal ended the VMM",
            End::Code(0) if self.is_complete => return None,
            End::Code(_) if self.failed.is_some() => "the guest took an exception outside of steps",
            End::Code(0) => "the machine ended in the middle of the program",
            End::Code(_) => "the VMM reported a failure",
        };
        Some(Failure {
            kind,
            detail: match end {
                End::Signal(number) => format!("signal {number}"),
                End::Code(code) => self.failed.clone().unwrap_or(format!("exit code {code}")),
                _ => String::new(),
            },
            at,
        })
    }
}

/// What is wrong with a run.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure; a shorter program has to fail in the same way.
    pub kind: &'static str,
    /// The signal, or the exit code.
    pub detail: String,
    /// The step that was not over.
    pub at: Option<(u32, String)>,
}

impl Failure {
    /// Tells whether another run failed in the same way.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.kind, &self.detail) == (other.kind, &other.detail)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        match &self.at {
            Some((step, what)) => write!(f, ", in step {step}: {what}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\r\n#fuzz xen seed 1\r\nnoise\r\n#0 call.2 34.1 =0x00000000\r\n#1 msr 1.2 !0x0000000d\r\n#2 port 3.4";

    #[test]
    fn a_step_that_is_not_over_is_named() {
        let log = Log::parse(OUTPUT);
        assert_eq!((log.is_xen, log.answers.len()), (Some(true), 2));
        assert_eq!(log.answers[1].result, "!0x0000000d");
        assert_eq!(log.open, Some((2, "port 3.4".to_owned())));
        let hang = log.failure(&End::Silent).expect("a hang");
        assert!(hang.to_string().ends_with("in step 2: port 3.4"), "{hang}");
    }

    #[test]
    fn only_a_whole_program_and_a_power_off_are_fine() {
        let whole = Log::parse(&format!("{OUTPUT} =0x00000001\n#end\n"));
        assert_eq!(whole.failure(&End::Code(0)), None);
        for end in [End::Code(5), End::Signal(11), End::Grew, End::Endless] {
            assert!(whole.failure(&end).is_some(), "{end:?}");
        }
        let cut = Log::parse(OUTPUT);
        assert!(cut.failure(&End::Code(0)).is_some());
        let crash = whole.failure(&End::Signal(11)).expect("a crash");
        assert!(!crash.is_like(&whole.failure(&End::Signal(6)).expect("a crash")));
    }

    #[test]
    fn any_output_is_read() {
        for text in [
            "",
            "#",
            "#x",
            "#1",
            "#1 ",
            "#99999999999 a",
            "#fuzz ",
            "#end",
            "#1 a b c",
        ] {
            let _log = Log::parse(text);
        }
        assert_eq!(
            Log::parse("#failed: exception 6").failed.as_deref(),
            Some("exception 6")
        );
    }
}
