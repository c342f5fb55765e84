//! How a run ends, and its exit code.

use pvh_abi::sched::ShutdownReason;

use super::error::RunError;
use crate::{
    devices::Request,
    exit::{CRASHED, HOST, QUIT, REBOOT, SUCCESS, signalled},
    machine::{Crash, End},
};

/// How a run ended that could begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest switched off.
    PoweredOff,
    /// The guest asked to reboot, and the machine was not to be built anew.
    RebootRequested,
    /// The guest cannot go on.
    Crashed(Box<Crash>),
    /// The guest's domain was shut down, for a reason that is neither to switch off nor to start anew.
    Shutdown(ShutdownReason),
    /// The user ended it at the terminal.
    Quit,
    /// The guest switched off, but what was to be recorded of it is not whole.
    RecordLost,
    /// A signal with this number ended it.
    Signal(i32),
}

impl Outcome {
    /// Which code this end has.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::PoweredOff => SUCCESS,
            Self::RebootRequested => REBOOT,
            Self::Crashed(_) | Self::Shutdown(_) => CRASHED,
            Self::Quit => QUIT,
            Self::RecordLost => HOST,
            Self::Signal(number) => signalled(*number),
        }
    }

    /// Says what came of a machine whose run is over.
    ///
    /// # Errors
    ///
    /// [`RunError::Panicked`], [`RunError::LostMemory`].
    pub(super) fn of(end: End) -> Result<Self, RunError> {
        Ok(match end {
            End::Request(Request::PowerOff) => Self::PoweredOff,
            End::Request(Request::Reboot) => Self::RebootRequested,
            End::Crash(crash) => Self::Crashed(crash),
            End::Shutdown(reason) => Self::Shutdown(reason),
            End::Quit => Self::Quit,
            End::Signal(number) => Self::Signal(number),
            End::Panic => return Err(RunError::Panicked),
            End::LostMemory => return Err(RunError::LostMemory),
        })
    }
}

/// What to tell the user of a domain that was shut down without being switched off or started anew.
pub(crate) fn shutdown_line(reason: ShutdownReason) -> String {
    match reason {
        ShutdownReason::CRASH => {
            "the guest crashed: it reported that itself (SCHEDOP_shutdown)".to_owned()
        }
        ShutdownReason::WATCHDOG => {
            "the guest crashed: it did not restart its watchdog in time (SCHEDOP_watchdog)"
                .to_owned()
        }
        ShutdownReason::SUSPEND => {
            "the guest asked to be suspended, which is not supported; stopping".to_owned()
        }
        ShutdownReason::SOFT_RESET => {
            "the guest asked for a soft reset, which is not supported; stopping".to_owned()
        }
        ShutdownReason(number) => {
            format!("the guest asked to be shut down for the unknown reason {number}; stopping")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_code() {
        assert_eq!(Outcome::PoweredOff.exit_code(), 0);
        assert_eq!(Outcome::RebootRequested.exit_code(), 6);
        assert_eq!(Outcome::Quit.exit_code(), 130);
        assert_eq!(Outcome::RecordLost.exit_code(), 4);
        assert_eq!(Outcome::Signal(15).exit_code(), 143);
    }
}
