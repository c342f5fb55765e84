//! The host's end of the guest's console: standard streams, a file or a pseudo-terminal.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use pvh_backends::Pty;

/// Where the guest's console ends. It is opened before the sandbox and outlives a reboot.
#[derive(Debug)]
pub(crate) enum ConsoleEnd {
    /// Standard input and standard output.
    Stdio,
    /// Output goes to this file; there is no input.
    File(File),
    /// Both go through a pseudo-terminal.
    Pty(Pty),
}

impl ConsoleEnd {
    /// Tells whether it is this process's standard input and output.
    pub(crate) fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdio)
    }

    /// What output is written to.
    pub(crate) fn output(&self) -> io::Result<File> {
        match self {
            Self::Stdio => duplicate(io::stdout().as_fd()),
            Self::File(file) => duplicate(file.as_fd()),
            Self::Pty(pty) => duplicate(pty.ours().as_fd()),
        }
    }

    /// What input is read from.
    pub(crate) fn input(&self) -> io::Result<Option<File>> {
        let input = match self {
            Self::Stdio => duplicate(io::stdin().as_fd())?,
            Self::File(_) => return Ok(None),
            Self::Pty(pty) => duplicate(pty.ours().as_fd())?,
        };
        Ok(Some(input))
    }

    /// How many times 50 ms the end of a run waits for a reader at most, if that is bounded: whether
    /// a program will still open the pseudo-terminal is not known.
    pub(crate) fn patience(&self) -> u32 {
        match self {
            Self::Pty(_) => PTY_PATIENCE,
            _ => u32::MAX,
        }
    }
}

fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<File> {
    descriptor.try_clone_to_owned().map(File::from)
}

/// One second.
const PTY_PATIENCE: u32 = 20;
