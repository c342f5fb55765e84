//! A guest that keeps running, so that its VMM can be measured from the outside.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Instant,
};

use crate::measure::{PATIENCE, read_in_thread};

/// A VMM whose guest has written its byte and keeps running. The VMM ends on drop.
#[derive(Debug)]
pub struct Standing {
    child: Child,
    reader: Option<JoinHandle<()>>,
    _terminal: Option<OwnedFd>,
}

impl Standing {
    /// Starts `command` and waits for the guest's byte. `terminal` is kept open as long as the VMM
    /// runs.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or if the guest writes nothing.
    pub fn start(command: &mut Command, terminal: Option<OwnedFd>) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut standing = Self {
            child: command.spawn()?,
            reader: None,
            _terminal: terminal,
        };
        let stdout = standing.child.stdout.take();
        let stdout = stdout.ok_or(io::ErrorKind::BrokenPipe)?;
        let (seen, reader) = read_in_thread(stdout, Instant::now());
        standing.reader = Some(reader);
        match seen.recv_timeout(PATIENCE) {
            Ok(Some(_)) => Ok(standing),
            _ => Err(io::Error::other("the guest wrote nothing")),
        }
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // The VMM may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            // It ends with the pipe.
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> io::Result<Standing> {
        let mut command = Command::new("sh");
        Standing::start(command.args(["-c", script]), None)
    }

    #[test]
    fn it_stands_until_it_is_dropped() {
        let standing = shell("echo B; exec sleep 100").unwrap();
        let process = format!("/proc/{}", standing.pid());
        assert!(Path::new(&process).exists());
        drop(standing);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn one_that_ends_without_its_byte_does_not_stand() {
        assert!(shell("echo A").is_err());
    }
}
