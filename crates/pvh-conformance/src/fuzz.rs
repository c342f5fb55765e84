//! Fuzzing from inside: programs of the fuzz guest, what its output says, and how a failing program
//! gets shorter.
//!
//! The fuzz guest ([`fuzz_image`](crate::fuzz_image)) carries out steps: hypercalls, port and memory
//! accesses, MSRs, CPUID, the local APIC, rings, page tables, starts and stops of vCPUs. A step
//! depends on the seed and on its own number alone, so a program is a seed and a list of numbers,
//! and it fits into a line.

mod campaign;
mod differ;
mod drive;
mod log;
mod shrink;

use std::{fmt, ops::RangeInclusive};

pub use campaign::{Campaign, Outcome};
pub use differ::{Difference, MAY_DIFFER, first_difference};
pub use drive::{Bounds, DriveError, End, Ran, Template, drive};
pub use log::{Answer, Failure, Log};
pub use shrink::{MAX_RUNS, Shrink};

/// The most steps of a program: its output stays below [`Bounds::output_bytes`].
pub const MAX_STEPS: u32 = 1_000_000;

/// Steps that a seed grows, all or some of them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Program {
    /// The seed.
    pub seed: u32,
    /// The number of steps.
    pub steps: u32,
    /// The steps that are carried out, in ascending order; `None` for all.
    pub keep: Option<Vec<u32>>,
}

impl Program {
    /// All `steps` that grow from `seed`.
    #[must_use]
    pub const fn new(seed: u32, steps: u32) -> Self {
        Self {
            seed,
            steps,
            keep: None,
        }
    }

    /// Returns the numbers of the steps that are carried out.
    #[must_use]
    pub fn kept(&self) -> Vec<u32> {
        match &self.keep {
            Some(keep) => keep.clone(),
            None => (0..self.steps).collect(),
        }
    }

    /// Returns the guest's command line.
    #[must_use]
    pub fn cmdline(&self) -> String {
        let Self { seed, steps, keep } = self;
        let keep = keep.as_ref().map(|keep| format!(" keep={}", List(keep)));
        format!("seed={seed} steps={steps}{}", keep.unwrap_or_default())
    }

    /// Reads the list of `--keep`: numbers and ranges, separated by commas.
    ///
    /// # Errors
    ///
    /// The first part that is neither a number nor a range of numbers below [`MAX_STEPS`].
    pub fn parse_keep(text: &str) -> Result<Vec<u32>, &str> {
        let mut keep = Vec::new();
        for part in text.split(',') {
            keep.extend(range(part).ok_or(part)?);
        }
        keep.sort_unstable();
        keep.dedup();
        Ok(keep)
    }
}

/// The options of `pvh-vmm fuzz` that carry out this program again.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {} --steps {}", self.seed, self.steps)?;
        match &self.keep {
            Some(keep) => write!(f, " --keep {}", List(keep)),
            None => Ok(()),
        }
    }
}

/// Numbers in ascending order, with ranges.
struct List<'a>(&'a [u32]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(numbers) = self;
        let runs = numbers.chunk_by(|first, second| first.checked_add(1) == Some(*second));
        for (index, run) in runs.enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match run {
                [first, .., last] => write!(f, "{first}-{last}")?,
                [only] => write!(f, "{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

fn range(part: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| text.parse().ok().filter(|number| *number < MAX_STEPS);
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(part)?, number(part)?),
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn a_program_is_a_command_line_and_the_options_that_repeat_it() {
        let mut program = Program::new(7, 100);
        assert_eq!(program.cmdline(), "seed=7 steps=100");
        program.keep = Some(vec![3, 5, 6, 7, 99]);
        assert_eq!(program.cmdline(), "seed=7 steps=100 keep=3,5-7,99");
        assert_eq!(program.to_string(), "--seed 7 --steps 100 --keep 3,5-7,99");
    }

    #[test]
    fn a_list_is_numbers_and_ranges_below_the_limit() {
        assert_eq!(
            Program::parse_keep("9,1-3,2").as_deref(),
            Ok(&[1, 2, 3, 9][..])
        );
        for (text, wrong) in [
            ("1,x", "x"),
            ("", ""),
            ("3-1", "3-1"),
            ("0-4000000000", "0-4000000000"),
        ] {
            assert_eq!(Program::parse_keep(text), Err(wrong));
        }
    }
}
