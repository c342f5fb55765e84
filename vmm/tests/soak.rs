//! Boots a guest many times whose four vCPUs go up and down at random: no boot may hang, lose the
//! start of a vCPU, or leave a thread behind.
//!
//! `SOAK_BOOTS` is the number of boots, and `SOAK_SEED` the first random seed, in hexadecimal.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::{BufRead, BufReader},
        process::{Child, Command, ExitStatus, Stdio},
        sync::mpsc::{Receiver, RecvTimeoutError, channel},
        thread::{sleep, spawn},
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use tempfile::TempDir;

    /// Much longer than a boot takes on a slow host: only a boot that hangs exceeds it.
    const PATIENCE: Duration = Duration::from_secs(120);
    /// How many boots one process makes if the guest reboots.
    const BOOTS_OF_A_PROCESS: u64 = 25;
    /// After a reboot, the threads of the old machine may take this long to end.
    const IN_PASSING: usize = 2;

    /// A process that runs the guest, and the lines that it prints.
    struct Soak {
        child: Child,
        lines: Receiver<String>,
        cmdline: String,
        _dir: TempDir,
    }

    impl Soak {
        fn start(cmdline: String) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let kernel = dir.path().join("soak.elf");
            fs::write(&kernel, pvh_conformance::soak_image()).unwrap();
            // If the test runner ignores signals (nohup does), pvh-vmm would inherit that.
            let mut child = Command::new("env")
                .arg("--default-signal")
                .arg(assert_cmd::cargo::cargo_bin("pvh-vmm"))
                .arg("run")
                .arg(kernel)
                .args(["--platform", "xen", "--cpus", "4", "--memory", "32M"])
                .args(["--cmdline", &cmdline])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let (sender, lines) = channel();
            spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
            Self {
                child,
                lines,
                cmdline,
                _dir: dir,
            }
        }

        /// Waits for the line that ends one boot, and returns the most threads and open files that
        /// the process had until then.
        fn boot(&mut self) -> [usize; 2] {
            let start = Instant::now();
            let mut most = [0; 2];
            while start.elapsed() < PATIENCE {
                let holds = self.holds();
                most = [0, 1].map(|what| most[what].max(holds[what]));
                match self.lines.recv_timeout(Duration::from_millis(5)) {
                    Ok(line) => {
                        assert!(line.starts_with("soak: ok"), "{}: {line}", self.cmdline);
                        return most;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(error) => panic!("{}: {error}", self.cmdline),
                }
            }
            panic!("{}: it hangs", self.cmdline);
        }

        fn ends(&mut self) -> ExitStatus {
            let start = Instant::now();
            while start.elapsed() < PATIENCE {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(2));
            }
            panic!("{}: it does not end", self.cmdline);
        }

        /// How many threads and open files the process has.
        fn holds(&self) -> [usize; 2] {
            ["task", "fd"].map(|what| {
                let path = format!("/proc/{}/{what}", self.child.id());
                fs::read_dir(path).map_or(0, Iterator::count)
            })
        }
    }

    impl Drop for Soak {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Boots once, and powers off.
    fn once(seed: u64) {
        let mut soak = Soak::start(format!("seed={:x}", seed & 0xffff_ffff));
        soak.boot();
        let status = soak.ends();
        assert!(status.success(), "{}: {status}", soak.cmdline);
    }

    /// Boots many times by rebooting; a signal ends it at a random moment of the last boot.
    fn often(seed: u64, boots: u64) {
        let mut soak = Soak::start(format!("seed={:x} reboot", seed & 0xffff_ffff));
        let mut at_first = [0; 2];
        for boot in 0..boots {
            let holds = soak.boot();
            if boot < 2 {
                at_first = [0, 1].map(|what| at_first[what].max(holds[what]));
            }
            let grew = [0, 1].map(|what| holds[what].saturating_sub(at_first[what]) > IN_PASSING);
            assert_eq!(
                grew, [false; 2],
                "threads, files: {holds:?}, at first {at_first:?}"
            );
        }
        sleep(Duration::from_millis(seed % 50));
        kill(
            Pid::from_raw(soak.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        let status = soak.ends();
        assert_eq!(status.code(), Some(143), "{}: {status}", soak.cmdline);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn vcpus_go_up_and_down_boot_after_boot() {
        let number = |name, radix| {
            let text = env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(u64::from_str_radix(&text, radix).unwrap_or_else(|_| panic!("{name}={text}")))
        };
        let boots = number("SOAK_BOOTS", 10).unwrap_or(10);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = number("SOAK_SEED", 16).unwrap_or(u64::from(clock.subsec_nanos()));
        println!("soak: {boots} boots, SOAK_SEED={seed:x}");
        let start = Instant::now();
        // In one batch of five, each boot has a process of its own.
        let mut done = 0;
        for seed in seed.. {
            let left = boots - done;
            if left == 0 {
                break;
            }
            if seed % 5 == 0 || left < 3 {
                for seed in (0..left.min(7)).map(|part| seed.wrapping_mul(0x9e37_79b9) ^ part) {
                    once(seed);
                    done += 1;
                }
            } else {
                let now = left.min(BOOTS_OF_A_PROCESS);
                often(seed.wrapping_mul(0x9e37_79b9), now);
                done += now;
            }
            println!("soak: {done} of {boots} boots, {:?}", start.elapsed());
        }
    }
}
