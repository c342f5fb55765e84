//! Puts the user's terminal in raw mode, and restores it however the process ends.
//!
//! The original settings are in a static, so that the panic hook can restore them before it
//! prints: a panic of another thread runs no destructor of this one.

use std::{
    io, panic,
    sync::{Mutex, Once, PoisonError},
};

use nix::{
    sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};

/// A terminal in raw mode; dropping it restores the original settings.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Puts the terminal at standard input in raw mode: every key goes to the guest, Ctrl-C too.
    ///
    /// Returns `None` if standard input is no terminal, or if another job uses the terminal now:
    /// a change would disturb that job.
    ///
    /// # Errors
    ///
    /// The terminal refuses the settings.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !is_ours() {
            return Ok(None);
        }
        let found = tcgetattr(&stdin)?;
        let raw = raw(found.clone());
        restore_on_panic();
        *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        let guard = Self(());
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(guard))
    }
}

impl RawTerminal {
    /// Restores the original settings and discards what was typed and not read: those are keys for
    /// the guest, and the terminal's answers to what the guest has asked it. A shell would take
    /// them for commands.
    pub fn leave(self) {
        restore(SetArg::TCSAFLUSH);
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(SetArg::TCSANOW);
    }
}

/// Restores the original settings, if that has not been done.
fn restore(how: SetArg) {
    if let Some(found) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
        put_back(&found, how);
    }
}

/// Restores the original settings from a signal handler, which may not wait.
pub fn restore_in_handler() {
    // A thread that holds the lock is about to restore them, or has not changed them yet.
    if let Some(found) = FOUND.try_lock().ok().and_then(|mut found| found.take()) {
        put_back(&found, SetArg::TCSANOW);
    }
}

/// Tells whether standard input is a terminal and this process its foreground job.
pub fn is_ours() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// Settings that pass every key at once, without echo and signals. The output side stays as it
/// was, so that a line feed still returns the carriage.
fn raw(mut termios: Termios) -> Termios {
    let output = termios.output_flags;
    cfmakeraw(&mut termios);
    termios.output_flags = output | OutputFlags::OPOST;
    termios
}

/// Makes a panic of any thread restore the terminal before it prints.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that panics while it holds the lock has not changed the terminal.
            restore_in_handler();
            print(info);
        }));
    });
}

fn put_back(found: &Termios, how: SetArg) {
    // Another job that uses the terminal now has set it up for itself.
    if is_ours() {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), how, found);
    }
}

/// The settings before [`RawTerminal::enter`].
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, Stdio},
    };

    use nix::{
        pty::openpty,
        sys::termios::{InputFlags, LocalFlags},
    };

    use super::*;

    #[test]
    fn raw_mode_passes_every_key_and_keeps_line_feeds_on_output() {
        let pty = openpty(None, None).unwrap();
        let found = tcgetattr(&pty.slave).unwrap();
        assert!(
            found
                .local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO)
        );
        let raw = raw(found.clone());
        let keys = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN;
        assert!(!raw.local_flags.intersects(keys));
        assert!(
            !raw.input_flags
                .intersects(InputFlags::ICRNL | InputFlags::IXON)
        );
        assert_eq!(raw.output_flags, found.output_flags);
    }

    #[test]
    fn a_panic_restores_the_terminal_without_any_destructor() {
        const CHILD: &str = "PVH_TERMINAL_TEST_PANICS";
        if env::var_os(CHILD).is_some() {
            let guard = RawTerminal::enter()
                .unwrap()
                .expect("a terminal of our own");
            std::mem::forget(guard);
            panic!("on purpose");
        }
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("raw::tests::a_panic_restores_the_terminal_without_any_destructor")
            .env(CHILD, "1")
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(!done.status.success());
        assert!(String::from_utf8_lossy(&done.stderr).contains("on purpose"));
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }
}
