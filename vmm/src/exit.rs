//! Exit codes, and the one line that goes with a failure.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use pvh_abi::sched::ShutdownReason;
use pvh_kvm::{RamError, VmError};
use pvh_loader::{commit::CommitError, plan::PlanError};

use crate::{
    config::RunConfig,
    platform::Obstacle,
    run::{Outcome, RunError},
};

/// The guest powered off, or the file can be booted.
pub(crate) const SUCCESS: u8 = 0;
/// A check came out otherwise than on Xen, and nobody knows why.
pub(crate) const DIFFERS: u8 = 1;
/// The arguments are wrong in themselves; clap ends with the same code.
pub(crate) const ARGUMENTS: u8 = 2;
/// A file is refused.
pub(crate) const REFUSED: u8 = 3;
/// The host cannot, or could not keep what was to be written.
pub(crate) const HOST: u8 = 4;
/// The guest crashed.
pub(crate) const CRASHED: u8 = 5;
/// The guest asked to reboot, and was not to.
pub(crate) const REBOOT: u8 = 6;
/// The user ended the guest at the terminal: what an interrupt from there means.
const QUIT: u8 = signalled(2);

/// The code of an end by a signal.
const fn signalled(number: u8) -> u8 {
    number.saturating_add(128)
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
            Self::Signal(number) => signalled(u8::try_from(*number).unwrap_or(u8::MAX)),
        }
    }
}

impl RunError {
    /// Which code this failure has.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::CpuCount { .. }
            | Self::NeedsXen { .. }
            | Self::Overwrites { .. }
            | Self::NoFile { .. }
            | Self::Obstacle {
                source: Obstacle::Cpus { .. },
                ..
            } => ARGUMENTS,
            Self::Ram(RamError::Empty | RamError::NotWholePages { .. }) => ARGUMENTS,
            Self::Image { .. }
            | Self::Module { .. }
            | Self::Plan { .. }
            | Self::Commit { .. }
            | Self::Stubs { .. }
            | Self::NoRoom { .. } => REFUSED,
            Self::LostMemory => CRASHED,
            _ => HOST,
        }
    }

    /// What the user can do about it.
    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Image { source, .. } => source.fix()?.to_owned(),
            Self::Plan { source, .. } => source.fix()?.to_string(),
            Self::Obstacle {
                source: Obstacle::BareCalls { .. },
                ..
            } => "run it with --patch-hypercalls, or with --platform none".to_owned(),
            Self::NeedsXen { option, .. } => format!("leave {option} out, or say --platform xen"),
            Self::Stubs { .. } => "leave --patch-hypercalls out".to_owned(),
            Self::Overwrites { option, .. } | Self::NoFile { option, .. } => {
                format!("choose another file for {option}")
            }
            Self::Trace { .. } => "choose another file for --trace".to_owned(),
            Self::Record { .. } => "choose another file for --record".to_owned(),
            Self::Obstacle { .. } => "run it with --platform none".to_owned(),
            Self::CpuCount { .. } | Self::Vm(VmError::VcpuCount { .. }) => {
                "choose another --cpus".to_owned()
            }
            Self::Ram(RamError::NotWholePages { .. }) => {
                "choose a --memory in multiples of 4K".to_owned()
            }
            Self::Ram(_) | Self::HostMemory(_) => "choose another --memory".to_owned(),
            Self::Commit { .. } if self.module().is_some() => {
                "leave the module alone while it is loaded".to_owned()
            }
            Self::NoRoom { .. } => "choose a larger --memory".to_owned(),
            _ => return None,
        })
    }

    /// The module that is in the way, if it is one.
    fn module(&self) -> Option<usize> {
        match self {
            Self::Plan {
                source: PlanError::NoRoomForModule { index, .. },
                ..
            }
            | Self::Commit {
                source:
                    CommitError::ModuleChanged { index, .. }
                    | CommitError::Module { index, .. }
                    | CommitError::ReadModule { index, .. },
                ..
            } => Some(*index),
            _ => None,
        }
    }

    /// What to tell the user: what is wrong, with which file, and the way out, in one line.
    pub(crate) fn line(&self, config: &RunConfig) -> String {
        let module = self.module();
        let file = module.and_then(|index| config.modules.get(index));
        let (Some(index), Some(file), Some(cause)) = (module, file, self.source()) else {
            return sentence(self, self.fix());
        };
        // It is about the module's file, and neither about the kernel nor about a number.
        let number = format!("module {index}");
        let what = sentence(cause, self.fix());
        let what = what.strip_prefix(&number).unwrap_or(&what);
        let what = what.trim_start_matches([':', ' ']);
        format!("{}: {what}", file.path.display())
    }
}

/// What to tell the user of a domain that was shut down without being switched off or started anew.
pub(crate) fn shutdown_line(reason: ShutdownReason) -> String {
    match reason {
        ShutdownReason::CRASH => {
            "the guest has crashed: it says so itself (SCHEDOP_shutdown)".to_owned()
        }
        ShutdownReason::WATCHDOG => {
            "the guest has crashed: its watchdog was not poked in time (SCHEDOP_watchdog)"
                .to_owned()
        }
        ShutdownReason::SUSPEND => {
            "the guest asks to be suspended, which pvh-vmm cannot: its run ends here".to_owned()
        }
        ShutdownReason::SOFT_RESET => {
            "the guest asks for a soft reset, which pvh-vmm cannot: its run ends here".to_owned()
        }
        ShutdownReason(number) => {
            format!(
                "the guest asks to be shut down for the unknown reason {number}: its run ends here"
            )
        }
    }
}

/// An error with what caused it, and the way out.
pub(crate) fn sentence(error: &dyn Error, fix: Option<impl fmt::Display>) -> String {
    let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
    format!("{}{fix}", Chain(error))
}

/// Tells the user something in one line.
pub(crate) fn complain(line: &str) {
    complain_at_length(&Printable(line));
}

/// Tells the user something that has lines of its own.
pub(crate) fn complain_at_length(text: &dyn fmt::Display) {
    // Nobody is left to be told that standard error is gone.
    let _ = writeln!(io::stderr(), "pvh-vmm: {text}");
}

/// A text in which no control character is left: a file's name may hold any.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}

/// An error and what caused it, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
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

    #[test]
    fn a_file_s_name_stays_in_its_line() {
        assert_eq!(Printable("a\n\x1b[31mé").to_string(), "a\\n\\u{1b}[31mé");
    }

    #[test]
    fn wrong_in_themselves_are_no_cpus_and_no_memory() {
        assert_eq!(RunError::CpuCount { cpus: 0 }.exit_code(), 2);
        assert_eq!(RunError::Ram(RamError::Empty).exit_code(), 2);
        let too_large = RamError::TooLarge {
            size_bytes: 1 << 60,
            limit_bytes: 1 << 48,
            address_bits: 48,
        };
        assert_eq!(RunError::Ram(too_large).exit_code(), 4);
        assert_eq!(RunError::NoRoom { memory_bytes: 4096 }.exit_code(), 3);
    }
}
