//! The connection to a gdb: bounded, and never waiting past the end of the machine.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use gdbstub::conn::Connection;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::listen::Stream;

/// A client.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    stream: Stream,
    output: Vec<u8>,
    /// Readable when the machine ends: nothing is waited for then.
    stop: BorrowedFd<'a>,
    /// The client has sent a byte that gdb's protocol begins with.
    is_greeted: bool,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The client has closed it.
    #[error("the connection was closed")]
    Closed,
    /// The client does not speak gdb's protocol.
    #[error("the client does not speak gdb's protocol")]
    NotGdb,
    /// One answer would have been longer than the limit.
    #[error("an answer of more than {OUTPUT_MAX} bytes was asked for")]
    TooLong,
    /// The client does not read.
    #[error("the client has read nothing for {} seconds", WRITE_TIMEOUT.as_secs())]
    Stuck,
    /// The machine ends.
    #[error("the machine ends")]
    Stopped,
    /// The host reports an error.
    #[error("the connection failed")]
    Host(#[source] io::Error),
}

impl<'a> Client<'a> {
    pub(crate) const fn new(stream: Stream, stop: BorrowedFd<'a>) -> Self {
        Self {
            stream,
            output: Vec::new(),
            stop,
            is_greeted: false,
        }
    }

    /// Reads what has arrived; 0 bytes if nothing has.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, ConnectionError> {
        let len = match self.stream.read(buf) {
            Ok(0) => return Err(ConnectionError::Closed),
            Ok(len) => len,
            Err(error) if is_temporary(&error) => return Ok(0),
            Err(error) => return Err(host(error)),
        };
        // A browser that is made to talk to the port begins with the name of a method.
        let is_gdb = matches!(buf.first(), Some(&(b'+' | b'-' | b'$' | CTRL_C)));
        if !std::mem::replace(&mut self.is_greeted, true) && !is_gdb {
            return Err(ConnectionError::NotGdb);
        }
        Ok(len)
    }

    /// Sends what has been written.
    fn send(&mut self) -> Result<(), ConnectionError> {
        let now = Instant::now();
        let deadline = now.checked_add(WRITE_TIMEOUT).unwrap_or(now);
        let mut output = self.output.as_slice();
        while !output.is_empty() {
            match self.stream.write(output) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(len) => output = output.get(len..).unwrap_or_default(),
                Err(error) if is_temporary(&error) => {
                    self.wait_for_room(deadline)?;
                }
                Err(error) => return Err(host(error)),
            }
        }
        self.output.clear();
        Ok(())
    }

    fn wait_for_room(&self, deadline: Instant) -> Result<(), ConnectionError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectionError::Stuck);
        }
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [
            PollFd::new(self.stop, PollFlags::POLLIN),
            PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT),
        ];
        // An interruption ends the wait early; the loop around tries again.
        let _ = poll(&mut fds, left);
        let [stop, _] = fds;
        match stop.any() {
            Some(true) => Err(ConnectionError::Stopped),
            _ => Ok(()),
        }
    }
}

impl AsFd for Client<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection for Client<'_> {
    type Error = ConnectionError;

    fn write(&mut self, byte: u8) -> Result<(), ConnectionError> {
        self.write_all(&[byte])
    }

    fn write_all(&mut self, buf: &[u8]) -> Result<(), ConnectionError> {
        let len = self.output.len().saturating_add(buf.len());
        if len > OUTPUT_MAX {
            return Err(ConnectionError::TooLong);
        }
        self.output.extend_from_slice(buf);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ConnectionError> {
        self.send()
    }
}

fn host(error: io::Error) -> ConnectionError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ConnectionError::Closed,
        _ => ConnectionError::Host(error),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// gdb asks for a few KiB at a time; a client that asks for more than this is not served.
const OUTPUT_MAX: usize = 1 << 20;
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const CTRL_C: u8 = 3;
