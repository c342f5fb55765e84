//! How a run ends, and its exit code.

use pvh_abi::sched::ShutdownReason;
use pvh_config::exit::{CRASHED, HOST, QUIT, REBOOT, SUCCESS, signalled};
use pvh_devices::Request;
use pvh_kvm::Crash;

use super::error::RunError;
use crate::{machine::End, sandbox};

/// How a run ended whose guest could start.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest powered off.
    PoweredOff,
    /// The guest asked to reboot, with `--no-reboot`.
    RebootRequested,
    /// A triple fault reset the guest, with `--no-reboot`.
    Reset(Box<Crash>),
    /// The guest cannot go on.
    Crashed(Box<Crash>),
    /// The domain was shut down for a reason other than power-off or reboot.
    Shutdown(ShutdownReason),
    /// Every vCPU halted for good, with `--exit-on-halt` or a key after the message.
    Halted,
    /// The user ended the guest at the terminal.
    Quit,
    /// The guest powered off, but some of its output could not be written.
    OutputLost,
    /// The guest powered off, but its record is incomplete.
    RecordLost,
    /// A signal with this number ended the guest.
    Signal(i32),
}

impl Outcome {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::PoweredOff => SUCCESS,
            Self::RebootRequested | Self::Reset(_) => REBOOT,
            Self::Crashed(_) | Self::Shutdown(_) | Self::Halted => CRASHED,
            Self::Quit => QUIT,
            Self::OutputLost | Self::RecordLost => HOST,
            Self::Signal(number) => signalled(*number),
        }
    }

    /// The outcome of a machine that ended in this way.
    ///
    /// # Errors
    ///
    /// [`RunError::Panicked`], [`RunError::LostMemory`], [`RunError::Sandbox`].
    pub(super) fn of(end: End) -> Result<Self, RunError> {
        Ok(match end {
            End::Request(Request::PowerOff) => Self::PoweredOff,
            End::Request(Request::Reboot) => Self::RebootRequested,
            End::TripleFault(crash) => Self::Reset(crash),
            End::Crash(crash) => Self::Crashed(crash),
            End::Shutdown(reason) => Self::Shutdown(reason),
            End::Halted => Self::Halted,
            End::Quit => Self::Quit,
            End::Signal(number) => Self::Signal(number),
            End::Panic => return Err(RunError::Panicked),
            End::LostMemory => return Err(RunError::LostMemory),
            End::Sandbox => return Err(RunError::Sandbox(sandbox::take_error())),
        })
    }
}

impl End {
    /// The exit code that gdb is told.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Request(Request::PowerOff) => SUCCESS,
            Self::Request(Request::Reboot) => REBOOT,
            // Whether it counts as a reboot is decided later.
            Self::TripleFault(_) | Self::Crash(_) | Self::Shutdown(_) | Self::Halted => CRASHED,
            Self::Quit => QUIT,
            Self::Signal(number) => signalled(*number),
            Self::Panic | Self::LostMemory | Self::Sandbox => HOST,
        }
    }
}

/// The message for a plain machine of which no vCPU executes anything more.
pub(crate) const HALTED: &str =
    "every vCPU has halted with interrupts off: the guest has stopped for good";

/// The message for a domain that was shut down for another reason than power-off or reboot.
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
        assert_eq!(Outcome::Halted.exit_code(), 5);
        assert_eq!(Outcome::Quit.exit_code(), 130);
        assert_eq!(Outcome::OutputLost.exit_code(), 4);
        assert_eq!(Outcome::RecordLost.exit_code(), 4);
        assert_eq!(Outcome::Signal(15).exit_code(), 143);
    }
}
