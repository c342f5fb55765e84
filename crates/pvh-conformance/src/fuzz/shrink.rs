//! Makes a failing program shorter: delta debugging over the list of its steps.

use super::Program;

/// The most runs that one shrinking takes.
pub const MAX_RUNS: u32 = 200;

/// Proposes programs and hears whether they still fail.
///
/// ```
/// use pvh_conformance::fuzz::{Program, Shrink};
///
/// let mut shrink = Shrink::new(Program::new(1, 100), 80);
/// while let Some(program) = shrink.propose() {
///     let is_failing = program.kept().contains(&42); // here the guest runs
///     shrink.tell(is_failing);
/// }
/// assert_eq!(shrink.program().kept(), [42]);
/// ```
#[derive(Clone, Debug)]
pub struct Shrink {
    program: Program,
    keep: Vec<u32>,
    /// How many steps are left out at a time, and from which index on.
    len: usize,
    at: usize,
    runs: u32,
}

impl Shrink {
    /// Starts with a program that failed in step `last`, or before it.
    #[must_use]
    pub fn new(program: Program, last: u32) -> Self {
        let mut keep = program.kept();
        keep.retain(|step| *step <= last);
        let len = keep.len().div_ceil(2).max(1);
        Self {
            program,
            keep,
            len,
            at: 0,
            runs: 0,
        }
    }

    /// Returns a shorter program to try, or `None` if no part can be left out, or after
    /// [`MAX_RUNS`].
    #[must_use]
    pub fn propose(&self) -> Option<Program> {
        if self.runs >= MAX_RUNS || self.keep.len() < 2 || self.at >= self.keep.len() {
            return None;
        }
        Some(self.with(self.without()))
    }

    /// Hears whether the proposed program failed in the same way.
    pub fn tell(&mut self, is_failing: bool) {
        self.runs = self.runs.saturating_add(1);
        let tried = self.len;
        if is_failing {
            self.keep = self.without();
            // One step is always left: without steps, a failure would be the VMM's alone.
            self.len = self.len.min(self.keep.len().div_ceil(2)).max(1);
        } else {
            self.at = self.at.saturating_add(self.len);
        }
        // Shorter parts have not been tried yet, even if the program has become so short that no longer
        // ones are left.
        if self.at >= self.keep.len() && tried > 1 {
            (self.len, self.at) = (self.len.div_ceil(2), 0);
        }
    }

    /// Returns the shortest program that failed.
    #[must_use]
    pub fn program(&self) -> Program {
        self.with(self.keep.clone())
    }

    /// Returns how many runs it took.
    #[must_use]
    pub const fn runs(&self) -> u32 {
        self.runs
    }

    fn without(&self) -> Vec<u32> {
        let end = self.at.saturating_add(self.len);
        let kept = self.keep.iter().enumerate();
        let kept = kept.filter(|(index, _)| *index < self.at || *index >= end);
        kept.map(|(_, step)| *step).collect()
    }

    fn with(&self, keep: Vec<u32>) -> Program {
        Program {
            keep: Some(keep),
            ..self.program.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(steps: u32, is_failing: impl Fn(&[u32]) -> bool) -> (Vec<u32>, u32) {
        let mut shrink = Shrink::new(Program::new(1, steps), steps);
        while let Some(program) = shrink.propose() {
            shrink.tell(is_failing(&program.kept()));
        }
        (shrink.program().kept(), shrink.runs())
    }

    #[test]
    fn the_steps_that_a_failure_needs_are_left() {
        let needs = |wanted: &'static [u32]| {
            move |kept: &[u32]| wanted.iter().all(|step| kept.contains(step))
        };
        assert_eq!(shrunk(1000, needs(&[777])).0, [777]);
        assert_eq!(shrunk(1000, needs(&[3, 500, 999])).0, [3, 500, 999]);
        assert_eq!(shrunk(1, needs(&[0])).0, [0]);
        for steps in 1..100 {
            for wanted in 0..steps {
                let (kept, _) = shrunk(steps, |kept| kept.contains(&wanted));
                assert_eq!(kept, [wanted], "{wanted} of {steps}");
            }
        }
    }

    #[test]
    fn one_step_is_left_of_a_program_that_always_fails() {
        assert_eq!(shrunk(20, |_| true).0.len(), 1);
    }

    #[test]
    fn a_failure_that_never_shows_again_ends_too() {
        let (kept, runs) = shrunk(100_000, |_| false);
        assert_eq!((kept.len(), runs), (100_000, MAX_RUNS));
    }
}
