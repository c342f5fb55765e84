//! The sandbox of a process: its mode, its programs, and the entry of a thread.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use rustix::thread::{SecureComputingMode, secure_computing_mode};
use seccompiler::{BpfProgram, apply_filter};

use crate::{
    Role,
    filter::{Unlisted, compile},
    privilege::{Files, LandlockSupport, Limits, drop_capabilities, lower, restrict},
};

/// What a sandbox does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Everything; a call that is not on the list of its thread raises SIGSYS.
    On,
    /// A call that is not on the list is made, and the kernel logs it. Nothing else is in force.
    Log,
    /// Nothing.
    Off,
}

/// The sandbox of this process. A clone is the same sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mode: Mode,
    process: u32,
    programs: [OnceLock<BpfProgram>; Role::ALL.len()],
}

/// Why a thread cannot enter its sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The kernel has no seccomp, or something refuses it.
    #[error("the host refuses seccomp filters")]
    Seccomp(#[source] io::Error),
    /// The kernel refuses to rule out new privileges.
    #[error("the host refuses to rule out new privileges (PR_SET_NO_NEW_PRIVS)")]
    NoNewPrivileges(#[source] io::Error),
    /// The kernel refuses to drop the capabilities.
    #[error("the host refuses to drop the capabilities")]
    Capabilities(#[source] io::Error),
    /// Landlock is there and refuses.
    #[error("the host refuses Landlock rules")]
    Landlock(#[source] Box<landlock::RulesetError>),
}

impl Sandbox {
    /// A sandbox for this process. Nothing is restricted yet.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Seccomp`] if the kernel has no seccomp and the mode needs it.
    pub fn new(mode: Mode) -> Result<Self, SandboxError> {
        if mode != Mode::Off {
            match secure_computing_mode() {
                Ok(SecureComputingMode::Disabled | SecureComputingMode::Filter) => {}
                Ok(_) => return Err(SandboxError::Seccomp(io::ErrorKind::Unsupported.into())),
                Err(source) => return Err(SandboxError::Seccomp(source.into())),
            }
        }
        Ok(Self(Arc::new(Inner {
            mode,
            process: std::process::id(),
            programs: [const { OnceLock::new() }; Role::ALL.len()],
        })))
    }

    /// What it does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// Takes files, network and privileges from the calling thread and from the threads it will
    /// start. Says how much of Landlock this kernel has; `None` if the mode asks for none.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]: the kernel has these means and refuses.
    pub fn confine(&self, files: Files<'_>) -> Result<Option<LandlockSupport>, SandboxError> {
        if self.0.mode != Mode::On {
            return Ok(None);
        }
        // Before the capabilities go: a folder of the cache may need them to be opened.
        let landlock = restrict(files)?;
        drop_capabilities()?;
        Ok(Some(landlock))
    }

    /// Lowers the limits of the process.
    pub fn limit(&self, limits: Limits) {
        if self.0.mode == Mode::On {
            lower(limits);
        }
    }

    /// Compiles the filter of `role`, if that has not been done, so that the thread that enters
    /// need not.
    pub fn prepare(&self, role: Role) {
        self.program(role);
    }

    /// Restricts the calling thread, and the threads it will start, to the calls of `role`. This
    /// cannot be undone.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Seccomp`].
    pub fn enter(&self, role: Role) -> Result<(), SandboxError> {
        let Some(program) = self.program(role) else {
            return Ok(());
        };
        apply_filter(program).map_err(|error| SandboxError::Seccomp(host(error)))
    }

    fn program(&self, role: Role) -> Option<&BpfProgram> {
        let unlisted = match self.0.mode {
            Mode::On => Unlisted::Trap,
            Mode::Log => Unlisted::Log,
            Mode::Off => return None,
        };
        let place = Role::ALL.iter().position(|other| *other == role)?;
        let program = self.0.programs.get(place)?;
        Some(program.get_or_init(|| compile(role, self.0.process, unlisted)))
    }
}

/// The host's reason.
fn host(error: seccompiler::Error) -> io::Error {
    match error {
        seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
        other => io::Error::other(other),
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Log => "log",
            Self::Off => "off",
        })
    }
}
