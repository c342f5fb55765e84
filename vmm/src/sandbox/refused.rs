//! What happens when a thread makes a system call that its role does not allow: the terminal is put
//! back, one line says who called what, and the process ends.
//!
//! All of it runs in a signal handler, on a thread that may hold any lock: nothing here allocates or
//! waits.

use std::{
    fmt::{self, Write},
    io,
};

use nix::unistd::write;
use pvh_config::exit::{SANDBOX, signalled};
use pvh_kvm::RefusedCall;
use pvh_sandbox::describe;

use super::entry;

/// Reports a refused call and returns the exit code. `None` is a SIGSYS that somebody has sent.
pub(super) fn report(call: Option<RefusedCall>) -> u8 {
    pvh_terminal::restore_in_handler();
    let Some(call) = call else {
        return signalled(SIGSYS);
    };
    let mut line = Line::default();
    let name = describe(call.number, call.args);
    // A line that is too long is cut.
    let _ = match entry::role() {
        Some(role) => writeln!(line, "{WHO}thread {role} called {name}, {ADVICE}"),
        None => writeln!(line, "{WHO}a thread called {name}, {ADVICE}"),
    };
    // Not by the standard library, which locks. If standard error is closed, there is nobody to
    // tell.
    let _ = write(io::stderr(), line.bytes());
    SANDBOX
}

/// Text of a bounded length.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 512],
            len: 0,
        }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len.saturating_add(text.len());
        let place = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

const WHO: &str = "pvh-vmm: sandbox: ";

const ADVICE: &str = "which it never needs: the guest is ended. An attack, or a bug of pvh-vmm: \
    '--sandbox log' lists such calls and ends nothing";

/// "Bad system call".
const SIGSYS: i32 = 31;
