//! Programs one after the other, until one fails.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Bounds, Difference, DriveError, Failure, Log, Program, Shrink, Template, drive,
    first_difference,
};

/// What is run, and for how long.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Campaign {
    /// The VMM.
    pub vmm: Template,
    /// Another one, whose answers are to be the same.
    pub beside: Option<Template>,
    /// The first program; each next one has the next seed.
    pub first: Program,
    /// The number of programs.
    pub programs: u32,
    /// No program begins after this time.
    pub time: Duration,
    /// The bounds of each run.
    pub bounds: Bounds,
}

/// The result of a campaign.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was found.
    Clean {
        /// The programs that ran.
        programs: u32,
        /// The steps that they carried out.
        steps: usize,
    },
    /// A program failed.
    Failed {
        /// The program, as short as it got.
        program: Program,
        /// What its first run showed.
        failure: Failure,
        /// The runs that shrinking took.
        runs: u32,
    },
    /// An answer differs between the two VMMs.
    Differs {
        /// The program.
        program: Program,
        /// The answers.
        difference: Box<Difference>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean { programs, steps } => {
                write!(f, "{programs} programs, {steps} steps: nothing found")
            }
            Self::Failed {
                program,
                failure,
                runs,
            } => {
                let left = program.kept().len();
                writeln!(f, "{failure}")?;
                writeln!(f, "{left} steps are left after {runs} more runs; again by:")?;
                write!(f, "pvh-vmm fuzz {program}")
            }
            Self::Differs {
                program,
                difference,
            } => {
                let first = &difference.first;
                let (step, what) = (first.step, &first.kind);
                let second = difference.second.as_ref();
                let second = second.map_or("no answer", |answer| &answer.result);
                writeln!(
                    f,
                    "step {step} ({what} {}) differs: {} here, {second} beside; again by:",
                    first.arguments, first.result
                )?;
                write!(f, "pvh-vmm fuzz {program}")
            }
        }
    }
}

impl Campaign {
    /// Runs programs until one fails, the time is over or all have run. `say` gets a line for each
    /// program, and one when it shrinks.
    ///
    /// One program runs at a time; a failing one runs up to [`super::MAX_RUNS`] times more.
    ///
    /// # Errors
    ///
    /// A VMM cannot be started.
    pub fn run(&self, image: &Path, say: &mut dyn FnMut(&str)) -> Result<Outcome, DriveError> {
        let began = Instant::now();
        let (mut programs, mut steps) = (0_u32, 0_usize);
        while programs < self.programs && began.elapsed() < self.time {
            let program = Program {
                seed: self.first.seed.wrapping_add(programs),
                ..self.first.clone()
            };
            let (log, failure) = self.once(image, &program)?;
            say(&format!(
                "seed {}: {} steps",
                program.seed,
                log.answers.len()
            ));
            if let Some(failure) = failure {
                if log.is_xen.is_none() {
                    let runs = 0;
                    return Ok(Outcome::Failed {
                        program,
                        failure,
                        runs,
                    });
                }
                say(&format!("{failure}; shrinking"));
                return self.shrunk(image, program, failure, &log);
            }
            if let Some(beside) = &self.beside {
                let other = drive(beside, image, &program, &self.bounds)?;
                if let Some(difference) = first_difference(&log, &Log::parse(&other.output)) {
                    return Ok(Outcome::Differs {
                        program,
                        difference: Box::new(difference),
                    });
                }
            }
            programs = programs.saturating_add(1);
            steps = steps.saturating_add(log.answers.len());
        }
        Ok(Outcome::Clean { programs, steps })
    }

    fn once(&self, image: &Path, program: &Program) -> Result<(Log, Option<Failure>), DriveError> {
        let ran = drive(&self.vmm, image, program, &self.bounds)?;
        let log = Log::parse(&ran.output);
        let failure = log.failure(&ran.end);
        Ok((log, failure))
    }

    fn shrunk(
        &self,
        image: &Path,
        program: Program,
        failure: Failure,
        log: &Log,
    ) -> Result<Outcome, DriveError> {
        // A failure without an open step may come from any.
        let last = failure.at.as_ref().map(|(step, _)| *step);
        let last = last.or_else(|| log.answers.last().map(|answer| answer.step));
        let mut shrink = Shrink::new(program, last.unwrap_or(u32::MAX));
        while let Some(shorter) = shrink.propose() {
            let (_, again) = self.once(image, &shorter)?;
            shrink.tell(again.is_some_and(|again| again.is_like(&failure)));
        }
        Ok(Outcome::Failed {
            program: shrink.program(),
            failure,
            runs: shrink.runs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VMM in shell: it prints each step, and crashes in step 4 if that is kept.
    const VMM: &str = "echo '#fuzz xen'; keep=\"$1 \"; for step in 0 1 2 3 4 5; do case \"$keep\" in \
        *keep=*) case \"${keep#*keep=}\" in *$step*) ;; *) continue ;; esac ;; esac; \
        echo \"#$step call 1.1\"; [ $step = 4 ] && [ -n \"$2\" ] && exit 5; \
        echo \"#$step call 1.1 =0x0000000${3:-0}\"; done; echo '#end'";

    fn campaign(words: &[&str], beside: Option<&[&str]>) -> Outcome {
        let template = |words: &[&str]| {
            let all = ["sh", "-c", VMM, "{image}", "{cmdline}"];
            let words = all.iter().chain(words).map(|word| (*word).to_owned());
            Template::new(words.collect()).expect("a template")
        };
        let campaign = Campaign {
            vmm: template(words),
            beside: beside.map(template),
            first: Program::new(9, 6),
            programs: 2,
            time: Duration::from_secs(60),
            bounds: Bounds::default(),
        };
        let outcome = campaign.run(Path::new("x"), &mut |_| {});
        outcome.expect("a shell")
    }

    #[test]
    fn a_failing_program_shrinks_to_the_step_that_it_needs() {
        let text = campaign(&["crash"], None).to_string();
        assert!(text.contains("exit code 5), in step 4: call 1.1"), "{text}");
        assert!(
            text.ends_with("pvh-vmm fuzz --seed 9 --steps 6 --keep 4"),
            "{text}"
        );
    }

    #[test]
    fn a_clean_campaign_counts_and_a_difference_is_named() {
        let text = campaign(&[], Some(&[])).to_string();
        assert_eq!(text, "2 programs, 12 steps: nothing found");
        let text = campaign(&[], Some(&["", "7"])).to_string();
        let wanted = "step 0 (call 1.1) differs: =0x00000000 here, =0x00000007 beside";
        assert!(text.starts_with(wanted), "{text}");
    }
}
