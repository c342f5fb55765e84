//! Keeps console output and lines of the program apart on a terminal that both share.

use std::{
    io,
    os::fd::AsFd,
    sync::{Mutex, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::stat::fstat, unistd::isatty};

/// The terminal of this process.
pub static SCREEN: Screen = Screen::new();

/// The streams that share the terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a process has two output streams")]
pub enum Stream {
    /// The guest's console output.
    Console,
    /// Whole lines: the guest's log and messages of the program.
    Lines,
}

/// A terminal, and whether the guest has begun a line on it.
#[derive(Debug)]
pub struct Screen {
    has_open_line: Mutex<bool>,
}

impl Screen {
    const fn new() -> Self {
        Self {
            has_open_line: Mutex::new(false),
        }
    }

    /// Calls `write`, which writes console output.
    pub(crate) fn console<T>(&self, bytes: &[u8], write: impl FnOnce() -> T) -> T {
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

    /// Calls `write`, which writes whole lines after the text it gets: a line feed if the guest's
    /// line is still open after 100 ms.
    pub(crate) fn lines<T>(&self, write: impl FnOnce(&'static str) -> T) -> T {
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

    /// Returns the text to write before a line of the program. It never waits for a blocked writer.
    #[must_use]
    pub fn before_line(&self) -> &'static str {
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
#[must_use]
pub fn is_shared() -> bool {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let are_terminals = isatty(&stdout).unwrap_or(false) && isatty(&stderr).unwrap_or(false);
    let device = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd).map(|status| status.st_rdev).ok();
    are_terminals && device(stdout.as_fd()) == device(stderr.as_fd())
}

/// How long a line of the program waits for the guest's line to end, and the interval of its looks.
const OPEN_LINE_TIMEOUT: Duration = Duration::from_millis(100);
const OPEN_LINE_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
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
