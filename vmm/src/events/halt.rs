//! Watches for the halt of a plain machine, and decides what the user is told.

use std::time::Duration;

use event_manager::{EventOps, EventSet, Events};
use pvh_config::OnHalt;
use pvh_kvm::Halts;
use vmm_sys_util::timerfd::TimerFd;

use crate::run::HALTED;

/// The watch for the halt of every vCPU. A Xen domain has none: its end is the domain's.
#[derive(Debug)]
pub(super) struct HaltWatch {
    on_halt: OnHalt,
    timer: Option<TimerFd>,
    is_halted: bool,
}

/// What comes of a halt.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Halt {
    /// The run ends.
    End,
    /// The user is told, and may end it.
    Say(String),
}

impl HaltWatch {
    /// A watch that has not begun.
    pub(super) const fn new(on_halt: OnHalt) -> Self {
        Self {
            on_halt,
            timer: None,
            is_halted: false,
        }
    }

    /// Starts the timer; its events have `data`. If the host has no timer, a halt is not noticed.
    pub(super) fn start(&mut self, ops: &mut EventOps, data: u32) {
        let started = TimerFd::new().and_then(|mut timer| {
            timer.reset(POLL_INTERVAL, Some(POLL_INTERVAL))?;
            Ok(timer)
        });
        let added = |timer: &TimerFd| {
            ops.add(Events::with_data(timer, data, EventSet::IN))
                .is_ok()
        };
        self.timer = started.ok().filter(added);
    }

    /// Tells whether every vCPU has halted for good.
    pub(super) const fn is_halted(&self) -> bool {
        self.is_halted
    }

    /// Asks the vCPUs, after the timer has expired; returns what to do if they have just halted.
    pub(super) fn look(&mut self, halts: Option<&Halts>, is_terminal: bool) -> Option<Halt> {
        if let Some(timer) = &mut self.timer {
            // It has expired, so this does not wait.
            let _ = timer.wait();
        }
        self.found(halts.is_some_and(Halts::tick), is_terminal)
    }

    fn found(&mut self, is_halted: bool, is_terminal: bool) -> Option<Halt> {
        let was_halted = std::mem::replace(&mut self.is_halted, is_halted);
        if was_halted || !is_halted {
            return None;
        }
        Some(match (self.on_halt, is_terminal) {
            (OnHalt::Exit, _) => Halt::End,
            (OnHalt::Wait, true) => Halt::Say(format!("{HALTED}; any key ends pvh-vmm")),
            (OnHalt::Wait, false) => Halt::Say(format!(
                "{HALTED}; end it by a signal, or use --exit-on-halt"
            )),
        })
    }
}

/// Interval of the questions. Two rounds of answers are a halt, so the user is told 1 to 1.5
/// seconds after it.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_is_told_once_and_again_after_an_nmi_has_ended_it() {
        let mut watch = HaltWatch::new(OnHalt::Wait);
        assert_eq!(watch.found(false, true), None);
        let Some(Halt::Say(line)) = watch.found(true, true) else {
            panic!("it was not told");
        };
        assert!(line.ends_with("; any key ends pvh-vmm"), "{line}");
        assert!(watch.is_halted());
        assert_eq!(watch.found(true, true), None);
        assert_eq!(watch.found(false, true), None);
        let Some(Halt::Say(line)) = watch.found(true, false) else {
            panic!("it was not told");
        };
        assert!(line.contains("--exit-on-halt"), "{line}");
    }

    #[test]
    fn a_run_that_is_to_end_then_ends() {
        for is_terminal in [true, false] {
            let mut watch = HaltWatch::new(OnHalt::Exit);
            assert_eq!(watch.found(true, is_terminal), Some(Halt::End));
        }
    }
}
