//! Decides what a triple fault means: a reboot, as on a PC and on Xen, or a crash.

use std::time::Duration;

use pvh_config::{OnCrash, OnReboot};

/// A triple fault, and what is known about the machine that had it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TripleFault {
    /// The guest has printed something on its console since it started.
    pub(super) has_printed: bool,
    /// How long the guest ran.
    pub(super) ran_for: Duration,
    /// A file that guest memory is mapped from was changed.
    pub(super) is_file_changed: bool,
}

/// What to do after a triple fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reset {
    /// Report a crash and end.
    Crash,
    /// Start the guest again.
    Reboot,
    /// End as after a request to reboot, with `--no-reboot`.
    End,
}

/// Counts the machines of a run that had a triple fault before they printed anything.
#[derive(Debug, Default)]
pub(super) struct Resets {
    silent: u32,
}

impl Resets {
    /// Decides after the next triple fault.
    pub(super) fn decide(
        &mut self,
        fault: TripleFault,
        on_crash: OnCrash,
        on_reboot: OnReboot,
    ) -> Reset {
        self.silent = match fault.has_printed {
            true => 0,
            false => self.silent.saturating_add(1),
        };
        let is_early = !fault.has_printed && fault.ran_for < EARLY_TIME;
        let is_crash = fault.is_file_changed
            || is_early && on_crash == OnCrash::Report
            || self.silent >= SILENT_LIMIT;
        match (is_crash, on_reboot) {
            (true, _) => Reset::Crash,
            (false, OnReboot::Rebuild) => Reset::Reboot,
            (false, OnReboot::End) => Reset::End,
        }
    }
}

/// A guest that has printed nothing for this long does something else than crash at its start.
const EARLY_TIME: Duration = Duration::from_secs(10);
/// This many silent machines in a row that end by a triple fault are a crash in any case.
const SILENT_LIMIT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::{OnCrash::*, OnReboot::*, *};

    fn after(has_printed: bool, seconds: u64) -> TripleFault {
        TripleFault {
            has_printed,
            ran_for: Duration::from_secs(seconds),
            is_file_changed: false,
        }
    }

    #[test]
    fn a_guest_that_has_printed_or_run_for_long_reboots() {
        for fault in [after(true, 0), after(true, 60), after(false, 60)] {
            for on_crash in [Report, Reboot] {
                let decide = |on_reboot| Resets::default().decide(fault, on_crash, on_reboot);
                assert_eq!(decide(Rebuild), Reset::Reboot, "{fault:?}");
                assert_eq!(decide(End), Reset::End, "{fault:?}");
            }
        }
    }

    #[test]
    fn an_early_and_silent_one_is_a_crash_unless_asked_otherwise() {
        let decide = |on_crash| Resets::default().decide(after(false, 1), on_crash, Rebuild);
        assert_eq!(decide(Report), Reset::Crash);
        assert_eq!(decide(Reboot), Reset::Reboot);
    }

    #[test]
    fn the_third_silent_one_in_a_row_is_a_crash() {
        let mut resets = Resets::default();
        let mut decide = |fault| resets.decide(fault, Reboot, Rebuild);
        let faults = [
            after(false, 1),
            after(false, 60),
            after(true, 1),
            after(false, 1),
        ];
        assert_eq!(faults.map(&mut decide), [Reset::Reboot; 4]);
        assert_eq!(decide(after(false, 60)), Reset::Reboot);
        assert_eq!(decide(after(false, 1)), Reset::Crash);
    }

    #[test]
    fn a_changed_file_is_a_crash() {
        let mut fault = after(true, 60);
        fault.is_file_changed = true;
        assert_eq!(Resets::default().decide(fault, Reboot, End), Reset::Crash);
    }
}
