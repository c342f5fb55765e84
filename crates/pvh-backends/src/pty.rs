//! A pseudo-terminal for the guest's console.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd::ttyname,
};

/// A pseudo-terminal: the VMM reads and writes one side, and a program of the host opens the other
/// side by its name.
///
/// It stays while programs come and go. The host's kernel keeps a few KiB that nobody has read yet;
/// after that a write waits, so that the writer must be a thread of its own.
#[derive(Debug)]
pub struct Pty {
    ours: File,
    name: PathBuf,
    /// Open as long as this is: without it, a read fails when the last program closes the other side.
    _other: OwnedFd,
}

impl Pty {
    /// Makes a raw pseudo-terminal: it echoes nothing, and passes every byte as it is.
    ///
    /// # Errors
    ///
    /// The host refuses: it has no room for one more, or no `/dev/pts`.
    pub fn open() -> io::Result<Self> {
        let pty = openpty(None, None)?;
        let mut termios = tcgetattr(&pty.slave)?;
        cfmakeraw(&mut termios);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &termios)?;
        Ok(Self {
            name: ttyname(&pty.slave)?,
            ours: File::from(pty.master),
            _other: pty.slave,
        })
    }

    /// The name of the other side, such as `/dev/pts/3`.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The VMM's side.
    #[must_use]
    pub fn ours(&self) -> &File {
        &self.ours
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_pass_both_ways_as_they_are_and_without_an_echo() {
        let pty = Pty::open().unwrap();
        let mut buffer = [0; 8];
        for _ in 0..2 {
            // A program comes and goes.
            let path = pty.name();
            let mut program = File::options().read(true).write(true).open(path).unwrap();
            pty.ours().write_all(b"a\r\n\x03").unwrap();
            program.read_exact(&mut buffer[..4]).unwrap();
            assert_eq!(&buffer[..4], b"a\r\n\x03");
            program.write_all(b"\x03\r\x01x").unwrap();
            pty.ours().read_exact(&mut buffer[..4]).unwrap();
            assert_eq!(&buffer[..4], b"\x03\r\x01x");
        }
    }
}
