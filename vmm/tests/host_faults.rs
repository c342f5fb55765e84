//! A host that goes away under a run: its terminal, its standard streams, its threads.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Read,
        os::fd::OwnedFd,
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use assert_cmd::cargo::cargo_bin;
    use nix::{
        sys::{
            signal::{Signal, kill},
            termios::{Termios, tcgetattr},
        },
        unistd::Pid,
    };
    use tempfile::TempDir;

    use super::guest::{OnTerminal, obedient};

    /// The guest that obeys, on a terminal.
    struct Session {
        child: Child,
        keyboard: Option<File>,
        terminal: OwnedFd,
        before: Termios,
        _dir: TempDir,
    }

    impl Session {
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
                keyboard: Some(keyboard),
                terminal,
                before,
                _dir: dir,
            }
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Waits for the end; returns the exit code.
    fn end(child: &mut Child, what: &str) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{what}: no end");
            sleep(Duration::from_millis(5));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_terminal_that_goes_away_ends_the_run_as_a_hangup() {
        let mut session = Session::start();
        drop(session.keyboard.take());
        assert_eq!(end(&mut session.child, "hangup"), Some(128 + 1));
    }

    /// Each signal that ends a process by default, but SIGKILL, which nobody can hear, and those
    /// that report a fault of the process's own instructions.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_signal_that_would_end_the_process_restores_the_terminal() {
        for signal in Signal::iterator() {
            if KEEPS_RUNNING.contains(&signal) || OUT_OF_REACH.contains(&signal) {
                continue;
            }
            let mut session = Session::start();
            session.signal(signal);
            let code = end(&mut session.child, signal.as_str());
            assert_eq!(code, Some(128 + signal as i32), "{signal}");
            let after = tcgetattr(&session.terminal).unwrap();
            assert_eq!(after, session.before, "{signal}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn signals_that_end_no_process_disturb_no_guest() {
        let mut session = Session::start();
        for _ in 0..200 {
            for signal in KEEPS_RUNNING {
                session.signal(signal);
            }
        }
        sleep(Duration::from_millis(100));
        assert_eq!(session.child.try_wait().unwrap(), None);
        let mut keyboard = session.keyboard.as_ref().unwrap();
        std::io::Write::write_all(&mut keyboard, b"P").unwrap();
        assert_eq!(end(&mut session.child, "power off"), Some(0));
        assert_eq!(tcgetattr(&session.terminal).unwrap(), session.before);
    }

    /// By default they are ignored, or have no effect on a process that is not stopped.
    const KEEPS_RUNNING: [Signal; 6] = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGURG,
        Signal::SIGWINCH,
        Signal::SIGPIPE,
        // It has a handler that makes the write fail.
        Signal::SIGXFSZ,
    ];

    /// Nobody hears SIGKILL and SIGSTOP; SIGTSTP, SIGTTIN and SIGTTOU stop; the rest are faults.
    const OUT_OF_REACH: [Signal; 12] = [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGSYS,
    ];

    /// Runs the demo guest by a line of the shell; returns the exit code and both streams.
    fn shell(line: &str) -> (Option<i32>, String, String) {
        let output = Command::new("timeout")
            .args(["--signal=KILL", "60", "bash", "-c", line])
            .arg(cargo_bin("pvh-vmm"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn standard_streams_that_are_closed_are_no_obstacle() {
        for streams in ["<&-", "2>&-", "<&- 2>&-"] {
            let (code, page, _) = shell(&format!(r#"exec "$0" run {streams}"#));
            assert_eq!(code, Some(0), "{streams}");
            assert!(page.contains("PVH demo: ok"), "{streams}: {page}");
        }
        for streams in [">&-", "<&- >&- 2>&-"] {
            let (code, ..) = shell(&format!(r#"exec "$0" run --quiet {streams}"#));
            assert_eq!(code, Some(0), "{streams}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_end_of_standard_input_leaves_the_guest_running() {
        let (_dir, kernel) = obedient();
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(cargo_bin("pvh-vmm"))
            .arg("run")
            .arg(&kernel)
            .args(["--memory", "4M", "--platform", "none"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut booted = [0];
        let output = child.stdout.as_mut().unwrap();
        output.read_exact(&mut booted).unwrap();
        drop(child.stdin.take());
        sleep(Duration::from_millis(500));
        let state = child.try_wait().unwrap();
        // A loop on the closed input would use the time of one processor.
        let busy = ticks_of(child.id(), "events");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let code = end(&mut child, "SIGTERM");
        assert_eq!((state, code), (None, Some(143)));
        assert!(busy.is_some_and(|ticks| ticks < 20), "{busy:?}");
    }

    /// The processor time of the thread of this name, in clock ticks.
    fn ticks_of(pid: u32, name: &str) -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let stats = tasks.flatten().map(|task| task.path().join("stat"));
        let mut stats = stats.filter_map(|path| fs::read_to_string(path).ok());
        let stat = stats.find(|stat| stat.contains(&format!("({name})")))?;
        let (_, rest) = stat.rsplit_once(')')?;
        let words: Vec<_> = rest.split_whitespace().collect();
        let ticks = words.get(11..13)?;
        ticks.iter().map(|word| word.parse::<u64>().ok()).sum()
    }

    /// A FIFO to which nobody writes, under a module.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_module_that_never_arrives_is_ended_by_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("initrd");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let line = format!(
            r#"env --default-signal "$0" run --initrd {} & sleep 0.5; kill $!; wait $!"#,
            fifo.display()
        );
        assert_eq!(shell(&line).0, Some(143));
        let line = format!("exec 7<>{}; {line}", fifo.display());
        assert_eq!(shell(&line).0, Some(143));
    }

    /// A control group that is removed at the end.
    struct Group(PathBuf);

    impl Group {
        fn new(controller: &str) -> Self {
            let name = format!("pvh-vmm-test-{}", std::process::id());
            let path = Path::new("/sys/fs/cgroup").join(controller).join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Runs a guest with four vCPUs in the group.
        fn run(&self) -> (Option<i32>, String, String) {
            let procs = self.0.join("cgroup.procs");
            shell(&format!(
                r#"echo $$ >{}; exec "$0" run --quiet --cpus 4 --memory 64M"#,
                procs.display()
            ))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    /// With the sandbox on: what is called after a refused thread is on the lists too.
    #[test]
    #[ignore = "needs root and a control group of version 1"]
    fn a_host_that_refuses_any_thread_is_one_line_and_code_4() {
        let group = Group::new("pids");
        let mut refused = 0;
        for most in 2.. {
            fs::write(group.0.join("pids.max"), most.to_string()).unwrap();
            let (code, page, told) = group.run();
            if code == Some(0) {
                assert!(page.contains("PVH demo: ok"), "{most}: {page}");
                break;
            }
            assert_eq!((code, told.lines().count()), (Some(4), 1), "{most}: {told}");
            refused += 1;
        }
        assert!(refused > 5, "{refused}");
    }
}
