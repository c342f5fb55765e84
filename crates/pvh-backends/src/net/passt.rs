//! Starts passt, which gives a guest the network of a user without any rights.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    process::{Command, Stdio},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Why passt cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasstError {
    /// The program cannot be run.
    #[error("cannot run passt")]
    Run(#[source] io::Error),
    /// The host gives no pair of sockets.
    #[error("cannot make a socket for passt")]
    Socket(#[source] io::Error),
}

/// Starts passt with these arguments, connected to the stream that is returned. It ends when the
/// stream is closed, and it says on standard error why it cannot work.
///
/// The socket is inherited by its number, so no other thread may start programs at the same time.
///
/// # Errors
///
/// [`PasstError`].
pub fn start_passt(arguments: &[String]) -> Result<UnixStream, PasstError> {
    let (ours, theirs) = UnixStream::pair().map_err(PasstError::Socket)?;
    let inherited = fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()));
    inherited.map_err(|error| PasstError::Socket(error.into()))?;
    let number = theirs.as_raw_fd().to_string();
    let started = Command::new("passt")
        .args(["--foreground", "--quiet", "--fd", &number])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    // Its own end is closed here, so that the stream ends when passt does. Nobody waits for the
    // process: it ends by itself, and the system removes it when this program ends.
    started.map(drop).map_err(PasstError::Run)?;
    Ok(ours)
}
