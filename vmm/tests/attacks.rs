//! How long it takes to end a machine whose guest attacks its hypervisor: by a signal and by Ctrl-A X, at random moments.
//!
//! `ENDS_TRIES` says how often in all; then each end has to come within 0.5 s, and the times are printed.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::{self, File},
        io::{BufRead, BufReader, Read, Write},
        os::fd::OwnedFd,
        path::{Path, PathBuf},
        process::{Child, Stdio},
        thread::sleep,
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use nix::{
        pty::openpty,
        sys::{
            signal::{Signal, kill},
            termios::{Termios, tcgetattr},
        },
        unistd::Pid,
    };
    use tempfile::TempDir;

    use super::guest::run_on;

    /// What the guest does, its vCPUs and its memory.
    const ATTACKS: [(&str, &str, &str); 9] = [
        ("downs", "1", "64M"),
        ("downs", "16", "64M"),
        ("downs", "64", "64M"),
        ("downs", "128", "64M"),
        ("flush", "64", "64M"),
        ("balloon", "16", "512M"),
        ("slots", "1", "64M"),
        ("slots", "8", "64M"),
        ("resets", "4", "64M"),
    ];

    /// What a user is promised.
    const PROMISE: Duration = Duration::from_millis(500);
    /// Only a hang takes longer, on a host that does much else.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[derive(Clone, Copy, Debug)]
    enum Way {
        Signal,
        Keys,
    }

    /// The guest, running on a terminal of its own.
    struct Attack {
        child: Child,
        keyboard: File,
        terminal: OwnedFd,
        before: Termios,
    }

    impl Attack {
        fn start(kernel: &Path, (name, cpus, memory): (&str, &str, &str)) -> Self {
            let pty = openpty(None, None).unwrap();
            let before = tcgetattr(&pty.slave).unwrap();
            let mut child = run_on(&pty.slave, kernel)
                .args(["--platform", "xen", "--quiet"])
                .args(["--cpus", cpus, "--memory", memory, "--cmdline", name])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            if !line.starts_with("attack: ") || !line.contains("vCPUs") {
                let mut told = String::new();
                let stderr = child.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut told).unwrap();
                panic!("{name}: {line}{told}");
            }
            // The pipe stays open: a closed one would be told to the user.
            std::mem::forget(output);
            Self {
                child,
                keyboard: File::from(pty.master),
                terminal: pty.slave,
                before,
            }
        }

        /// Ends it; returns how long that took.
        fn end(mut self, way: Way) -> Duration {
            let start = Instant::now();
            let code = match way {
                Way::Signal => {
                    let pid = Pid::from_raw(self.child.id().cast_signed());
                    kill(pid, Signal::SIGTERM).unwrap();
                    143
                }
                Way::Keys => {
                    self.keyboard.write_all(b"\x01x").unwrap();
                    130
                }
            };
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    assert_eq!(status.code(), Some(code), "{way:?}");
                    break;
                }
                if start.elapsed() > PATIENCE {
                    self.child.kill().unwrap();
                    self.child.wait().unwrap();
                    panic!("{way:?}: it does not end");
                }
                sleep(Duration::from_millis(1));
            }
            let took = start.elapsed();
            assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before);
            took
        }
    }

    /// Numbers that follow from a seed (xorshift64, by Marsaglia).
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    fn kernel() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attack.elf");
        fs::write(&path, pvh_conformance::attack_image()).unwrap();
        (dir, path)
    }

    /// The time that `part` percent of the sorted times do not exceed.
    fn milliseconds(times: &[Duration], part: usize) -> u128 {
        let count = times.len().saturating_mul(part).div_ceil(100);
        let time = times.get(count.saturating_sub(1));
        time.map_or(0, Duration::as_millis)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_attacks_is_ended_at_any_moment() {
        let tries = env::var("ENDS_TRIES").ok().filter(|text| !text.is_empty());
        let tries: Option<usize> = tries.map(|text| text.parse().unwrap());
        let limit = tries.map_or(PATIENCE, |_| PROMISE);
        let each = tries.map_or(1, |tries| tries.div_ceil(ATTACKS.len()));
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut state = u64::from(clock.subsec_nanos()) | 1;
        println!("ends: seed {state:x}");
        let (_dir, kernel) = kernel();
        let mut late = Vec::new();
        for attack in ATTACKS {
            let mut times = Vec::new();
            for number in 0..each {
                let running = Attack::start(&kernel, attack);
                sleep(Duration::from_millis(next(&mut state) % 800));
                let way = if number % 2 == 0 {
                    Way::Signal
                } else {
                    Way::Keys
                };
                times.push(running.end(way));
            }
            times.sort_unstable();
            let (name, cpus, _) = attack;
            let [half, most, all] = [50, 90, 100].map(|part| milliseconds(&times, part));
            println!(
                "ends: {name}, {cpus} vCPUs, {each} times: median {half} ms, 90 % {most} ms, all {all} ms"
            );
            late.extend(times.into_iter().filter(|&time| time > limit));
        }
        assert!(late.is_empty(), "later than {limit:?}: {late:?}");
    }
}
