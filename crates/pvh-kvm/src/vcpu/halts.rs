//! Finds out that every vCPU of a plain machine has halted for good.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kicker, Vcpu};

/// Asks the vCPUs of a plain machine, one after the other, whether they have halted for good.
///
/// KVM executes HLT without an exit, so the VMM has to ask: it kicks a vCPU, and the vCPU's thread
/// answers with [`Vcpu::is_halted_for_good`] after [`VmExit::Interrupted`](super::VmExit). The next vCPU is asked only after a "yes", so a running machine costs one kick for each
/// call of [`tick`](Self::tick), whatever its number of vCPUs. Nobody waits: a thread that does not
/// answer counts as running. The lock is held for a few instructions.
#[derive(Debug)]
pub struct Halts {
    kickers: Vec<Kicker>,
    round: Mutex<Round>,
}

impl Halts {
    /// Asks these vCPUs.
    #[must_use]
    pub fn of(vcpus: &[Vcpu]) -> Self {
        let kickers: Vec<_> = vcpus.iter().map(Vcpu::kicker).collect();
        let round = Mutex::new(Round::new(kickers.len()));
        Self { kickers, round }
    }

    /// Begins a round of questions; returns whether all vCPUs said "yes" in the last two rounds.
    /// The event loop calls it once in a while.
    pub fn tick(&self) -> bool {
        let asked = self.round().begin();
        self.kick(asked);
        self.round().is_halted()
    }

    /// Answers for vCPU `index`, on its thread after an interruption, if it was asked.
    /// `is_halted_for_good` is called without the lock.
    pub fn answer(&self, index: usize, is_halted_for_good: impl FnOnce() -> bool) {
        if !self.round().is_asked(index) {
            return;
        }
        let is_halted = is_halted_for_good();
        let next = self.round().answer(index, is_halted);
        if let Some(next) = next {
            self.kick(next);
        }
    }

    fn kick(&self, index: usize) {
        if let Some(kicker) = self.kickers.get(index) {
            // If the host refuses the signal, the vCPU does not answer.
            let _ = kicker.kick();
        }
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The questions of one round, and how many rounds before it found all vCPUs halted.
#[derive(Debug)]
struct Round {
    vcpus: usize,
    /// The vCPU that is asked, or the first to ask.
    next: usize,
    /// A question has no answer yet.
    is_open: bool,
    /// How many answered "yes".
    halted: usize,
    /// Rounds in a row in which all did.
    rounds: u32,
}

impl Round {
    const fn new(vcpus: usize) -> Self {
        Self {
            vcpus,
            next: 0,
            is_open: false,
            halted: 0,
            rounds: 0,
        }
    }

    /// Ends a round and begins another one with the vCPU that ended it, which is the most likely to
    /// run; returns the vCPU to ask.
    fn begin(&mut self) -> usize {
        self.rounds = match self.halted == self.vcpus {
            true => self.rounds.saturating_add(1),
            false => 0,
        };
        self.halted = 0;
        self.is_open = true;
        self.next
    }

    /// Two rounds, because between two answers of one round a vCPU may have woken another.
    fn is_halted(&self) -> bool {
        self.rounds >= ROUNDS
    }

    fn is_asked(&self, index: usize) -> bool {
        self.is_open && self.next == index
    }

    /// Takes an answer; returns the vCPU to ask next.
    fn answer(&mut self, index: usize, is_halted: bool) -> Option<usize> {
        if !self.is_asked(index) {
            return None;
        }
        self.is_open = is_halted;
        if !is_halted {
            return None;
        }
        self.halted = self.halted.saturating_add(1);
        self.next = self.next.saturating_add(1).checked_rem(self.vcpus)?;
        self.is_open = self.halted < self.vcpus;
        self.is_open.then_some(self.next)
    }
}

const ROUNDS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a round in which the vCPUs answer so; returns whether the machine counts as halted
    /// before it, and who was asked.
    fn play(round: &mut Round, halted: &[bool]) -> (bool, Vec<usize>) {
        let mut asked = vec![round.begin()];
        let is_halted = round.is_halted();
        while let Some(&last) = asked.last()
            && let Some(next) = round.answer(last, halted[last])
        {
            asked.push(next);
        }
        (is_halted, asked)
    }

    #[test]
    fn two_rounds_of_yes_are_a_halt_and_one_no_ends_it() {
        let mut round = Round::new(3);
        let all = [true; 3];
        assert_eq!(play(&mut round, &all), (false, vec![0, 1, 2]));
        assert_eq!(play(&mut round, &all), (false, vec![0, 1, 2]));
        let one_runs = [true, false, true];
        assert_eq!(play(&mut round, &one_runs), (true, vec![0, 1]));
        assert_eq!(play(&mut round, &all), (false, vec![1, 2, 0]));
        assert_eq!(play(&mut round, &all), (false, vec![1, 2, 0]));
        assert!(play(&mut round, &all).0);
    }

    #[test]
    fn a_machine_that_runs_costs_one_question_a_round() {
        let mut round = Round::new(200);
        let mut halted = [true; 200];
        halted[7] = false;
        assert_eq!(play(&mut round, &halted).1.len(), 8);
        for _ in 0..10 {
            assert_eq!(play(&mut round, &halted), (false, vec![7]));
        }
    }

    #[test]
    fn a_vcpu_that_does_not_answer_counts_as_running() {
        let mut round = Round::new(1);
        for _ in 0..10 {
            assert_eq!(round.begin(), 0);
            assert!(!round.is_halted());
        }
        // A late answer is true all the same.
        assert_eq!(round.answer(0, true), None);
        assert_eq!(round.answer(0, true), None, "it was not asked twice");
        assert_eq!(play(&mut round, &[true]), (false, vec![0]));
        assert!(play(&mut round, &[true]).0);
    }
}
