//! The terminal: raw while a guest runs, and as it was on every way out.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::OwnedFd,
        process::{Child, ExitStatus, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use nix::{
        fcntl::{FcntlArg, OFlag, fcntl},
        pty::openpty,
        sys::{
            signal::{Signal, kill},
            termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
        },
        unistd::Pid,
    };
    use tempfile::TempDir;

    use super::guest::{OnTerminal, obedient, run_on};

    /// A guest on a terminal of its own, as the foreground job of a session.
    struct Session {
        child: Child,
        keyboard: File,
        terminal: OwnedFd,
        before: Termios,
        _dir: TempDir,
    }

    impl Session {
        /// Starts the guest and waits until it runs.
        fn start() -> Self {
            let OnTerminal {
                child,
                keyboard,
                terminal,
                before,
                dir,
            } = OnTerminal::start();
            Self {
                child,
                keyboard,
                terminal,
                before,
                _dir: dir,
            }
        }

        fn type_keys(&mut self, keys: &[u8]) {
            self.keyboard.write_all(keys).unwrap();
        }

        fn signal(&self, signal: Signal) {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
            kill(pid, signal).unwrap();
        }

        /// Tells whether the process has been stopped, as a shell sees it by `wait`.
        fn is_stopped(&self) -> bool {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
            stat.rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('T')
        }

        fn is_raw(&self) -> bool {
            let flags = tcgetattr(&self.terminal).unwrap().local_flags;
            !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        }

        /// Waits for the end, and checks that the terminal is as it was.
        fn end(mut self) -> ExitStatus {
            let patience = Instant::now();
            let status = loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    break status;
                }
                assert!(
                    patience.elapsed() < Duration::from_secs(20),
                    "it does not end"
                );
                sleep(Duration::from_millis(5));
            };
            let after = tcgetattr(&self.terminal).unwrap();
            assert_eq!(after, self.before);
            status
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            // Ends the process if the test has failed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let patience = Instant::now();
        while !holds() {
            assert!(
                patience.elapsed() < Duration::from_secs(10),
                "never: {what}"
            );
            sleep(Duration::from_millis(5));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_terminal_is_raw_while_the_guest_runs_and_restored_when_it_powers_off() {
        let mut session = Session::start();
        assert!(session.is_raw());
        session.type_keys(b"P");
        assert_eq!(session.end().code(), Some(0));
    }

    /// The guest asks where the cursor is and powers off; the terminal answers a moment later.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_answer_of_the_terminal_that_comes_at_the_end_is_not_left_for_the_shell() {
        let (_dir, kernel) = obedient();
        let pty = openpty(None, None).unwrap();
        let mut child = run_on(&pty.slave, &kernel)
            .args(["--memory", "4M", "--platform", "none", "--no-reboot"])
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut screen = File::from(pty.master);
        let mut shown = Vec::new();
        let mut show_until = |screen: &mut File, text: &[u8]| {
            while !shown.ends_with(text) {
                let mut byte = [0];
                screen.read_exact(&mut byte).unwrap();
                shown.push(byte[0]);
            }
        };
        show_until(&mut screen, b"B");
        screen.write_all(b"\x1b[6nP").unwrap();
        show_until(&mut screen, b"\x1b[6n");
        sleep(Duration::from_millis(20));
        screen.write_all(b"\x1b[1;1R").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        // What a shell would find: all that is there, without waiting for the end of a line.
        let mut raw = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
        fcntl(&pty.slave, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut left = [0; 16];
        let read = File::from(pty.slave).read(&mut left);
        assert!(read.is_err(), "{read:?}: {left:?}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn ctrl_c_goes_to_the_guest() {
        let mut session = Session::start();
        session.type_keys(b"\x03");
        let mut echo = [0];
        session
            .child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut echo)
            .unwrap();
        assert_eq!(echo, [3]);
        session.type_keys(b"P");
        assert_eq!(session.end().code(), Some(0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_crash_restores_the_terminal() {
        let mut session = Session::start();
        session.type_keys(b"X");
        assert_eq!(session.end().code(), Some(6));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn ctrl_a_x_ends_a_guest_that_hangs_and_does_not_listen() {
        let mut session = Session::start();
        session.type_keys(b"H");
        for _ in 0..20 {
            session.type_keys(&[b'x'; 100]);
        }
        session.type_keys(b"\x01x");
        assert_eq!(session.end().code(), Some(130));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_signal_ends_the_guest_with_128_and_its_number() {
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            let session = Session::start();
            session.signal(signal);
            assert_eq!(session.end().code(), Some(128 + signal as i32), "{signal}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_stop_gives_the_terminal_back_and_continuing_takes_it_again() {
        let mut session = Session::start();
        session.signal(Signal::SIGTSTP);
        // Only now: a SIGCONT before the stop would have no effect.
        eventually("it is stopped", || session.is_stopped());
        assert!(!session.is_raw());
        session.signal(Signal::SIGCONT);
        eventually("the terminal is raw again", || session.is_raw());
        session.type_keys(b"P");
        assert_eq!(session.end().code(), Some(0));
    }
}
