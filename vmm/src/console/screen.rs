//! The terminal that standard output and standard error share: lines of pvh-vmm start at the left.

use std::{
    io,
    os::fd::AsFd,
    sync::{Mutex, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::stat::fstat, unistd::isatty};

/// What the guest has left on the terminal.
pub(crate) static SCREEN: Screen = Screen::new();

/// Which of its two streams a writer writes to a terminal that both share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    /// What the guest prints on its console.
    Console,
    /// Whole lines: what the guest logs, and what pvh-vmm says.
    Lines,
}

/// A terminal with a line that the guest has begun, or without.
#[derive(Debug)]
pub(crate) struct Screen {
    has_open_line: Mutex<bool>,
}

impl Screen {
    const fn new() -> Self {
        Self {
            has_open_line: Mutex::new(false),
        }
    }

    /// Writes console output by `write`.
    pub(super) fn console<T>(&self, bytes: &[u8], write: impl FnOnce() -> T) -> T {
        let mut is_open = self
            .has_open_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let result = write();
        // A carriage return stays in its line.
        if let Some(last) = bytes.iter().rfind(|&&byte| byte != b'\r') {
            *is_open = *last != b'\n';
        }
        result
    }

    /// Writes whole lines by `write`, which gets what must stand before them. A line that the guest has begun has a moment to
    /// end.
    pub(super) fn lines<T>(&self, write: impl FnOnce(&'static str) -> T) -> T {
        let started = Instant::now();
        loop {
            let mut is_open = self
                .has_open_line
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !*is_open || started.elapsed() >= OPEN_LINE_TIMEOUT {
                return write(end_line(&mut is_open));
            }
            drop(is_open);
            thread::sleep(OPEN_LINE_POLL);
        }
    }

    /// Returns what must stand before a line that is written now; never waits for a writer that is stuck.
    pub(crate) fn before_line(&self) -> &'static str {
        match self.has_open_line.try_lock() {
            Ok(mut is_open) => end_line(&mut is_open),
            Err(TryLockError::Poisoned(poisoned)) => end_line(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => "",
        }
    }
}

fn end_line(is_open: &mut bool) -> &'static str {
    match std::mem::take(is_open) {
        true => "\n",
        false => "",
    }
}

/// Tells whether standard output and standard error are one terminal.
pub(crate) fn is_shared() -> bool {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let are_terminals = isatty(&stdout).unwrap_or(false) && isatty(&stderr).unwrap_or(false);
    let device = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd).map(|status| status.st_rdev).ok();
    are_terminals && device(stdout.as_fd()) == device(stderr.as_fd())
}

/// How long a line of pvh-vmm waits for a line of the guest to end, and how often it looks.
const OPEN_LINE_TIMEOUT: Duration = Duration::from_millis(100);
const OPEN_LINE_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ours_ends_one_that_the_guest_has_begun() {
        let screen = Screen::new();
        assert_eq!(screen.lines(|before| before), "");
        for (printed, before) in [
            ("login: ", "\n"),
            ("a\nb", "\n"),
            ("a\n", ""),
            ("a\n\r", ""),
            ("a\r\n", ""),
        ] {
            screen.console(printed.as_bytes(), || ());
            assert_eq!(screen.lines(|before| before), before, "{printed:?}");
            assert_eq!(screen.before_line(), "", "the line is ended once");
        }
    }

    #[test]
    fn a_line_of_ours_waits_for_the_guest_to_end_its_own() {
        let screen = Screen::new();
        screen.console(b"half", || ());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                screen.console(b" and half\n", || ());
            });
            assert_eq!(screen.lines(|before| before), "");
        });
    }

    #[test]
    fn a_writer_that_is_stuck_holds_up_no_last_word() {
        let screen = Screen::new();
        screen.console(b"x", || assert_eq!(screen.before_line(), ""));
    }
}
