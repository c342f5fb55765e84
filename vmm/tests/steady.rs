//! Machines side by side for a long time: what each process holds of its host stays flat.
//!
//! Of 16 machines, six live as long as the test: a guest for each attack on its hypervisor, and one
//! that takes its vCPUs up and down and reboots without end. In the other ten places, machines of the
//! same kinds start and are ended by a signal at random moments. `SOAK_SECONDS` says for how long.
#![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

#[cfg(test)]
mod held;

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::Read,
        os::unix::process::ExitStatusExt,
        path::{Path, PathBuf},
        process::{Child, ChildStdout, Command, Stdio},
        thread::sleep,
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use nix::{
        fcntl::{FcntlArg, OFlag, fcntl},
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use tempfile::TempDir;

    use super::held::Held;

    /// What the guest does, its vCPUs, and its memory in MiB.
    const KINDS: [(&str, u32, u64); 6] = [
        ("downs", 4, 64),
        ("flush", 4, 64),
        ("balloon", 2, 128),
        ("slots", 2, 64),
        ("resets", 2, 64),
        ("reboot", 4, 32),
    ];
    const PLACES: usize = 16;
    /// Each machine that is ended early lives at most this long.
    const SHORT_LIFE: Duration = Duration::from_secs(15);
    /// Only a hang takes longer, with so many machines on few processors.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The images, and numbers that follow from a seed (xorshift64, by Marsaglia).
    struct Soak {
        dir: TempDir,
        state: u64,
    }

    impl Soak {
        fn new(seed: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let images = [
                ("attack.elf", pvh_conformance::attack_image()),
                ("soak.elf", pvh_conformance::soak_image()),
            ];
            for (name, image) in images {
                fs::write(dir.path().join(name), image).unwrap();
            }
            Self {
                dir,
                state: seed | 1,
            }
        }

        fn next(&mut self, below: u64) -> u64 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.state % below
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn start(&mut self, kind: usize, life: Option<Duration>) -> Machine {
            let (name, cpus, mib) = KINDS[kind];
            let (image, cmdline) = match name {
                "reboot" => ("soak.elf", format!("seed={:x} reboot", self.next(1 << 32))),
                _ => ("attack.elf", name.to_owned()),
            };
            let number = self.next(u64::MAX);
            let errors = self.path(&format!("errors-{number:x}"));
            Machine::start(&self.path(image), &cmdline, (cpus, mib), &errors, life)
        }
    }

    /// One process, and what it held when it was young and lately.
    struct Machine {
        child: Child,
        output: ChildStdout,
        errors: PathBuf,
        what: String,
        mib: u64,
        born: Instant,
        life: Option<Duration>,
        young: Held,
        late: Held,
        booted: usize,
    }

    impl Machine {
        fn start(
            image: &Path,
            cmdline: &str,
            (cpus, mib): (u32, u64),
            errors: &Path,
            life: Option<Duration>,
        ) -> Self {
            let mut child = Command::new("env")
                .arg("--default-signal")
                .arg(assert_cmd::cargo::cargo_bin("pvh-vmm"))
                .arg("run")
                .arg(image)
                .args(["--platform", "xen", "--quiet", "--cache", "none"])
                .args(["--cpus", &cpus.to_string(), "--memory", &format!("{mib}M")])
                .args(["--cmdline", cmdline])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(fs::File::create(errors).unwrap())
                .spawn()
                .unwrap();
            let output = child.stdout.take().unwrap();
            fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            Self {
                child,
                output,
                errors: errors.to_owned(),
                what: cmdline.to_owned(),
                mib,
                born: Instant::now(),
                life,
                young: Held::default(),
                late: Held::default(),
                booted: 0,
            }
        }

        /// Reads what the guest printed, and looks at what the process holds.
        fn look(&mut self, is_young: bool, is_late: bool) {
            let mut buffer = [0; 4096];
            while let Ok(count) = self.output.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                let lines = buffer[..count].iter().filter(|&&byte| byte == b'\n');
                self.booted += lines.count();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                let told = fs::read_to_string(&self.errors).unwrap();
                panic!("{}: ended by itself: {status}: {told}", self.what);
            }
            let held = Held::of(self.child.id());
            let limit = (self.mib + 32) * 1024;
            assert!(held.anonymous_kib <= limit, "{}: {held:?}", self.what);
            if is_young {
                self.young = self.young.most(held);
            }
            if is_late {
                self.late = self.late.most(held);
            }
        }

        fn is_old(&self) -> bool {
            self.life.is_some_and(|life| self.born.elapsed() >= life)
        }

        /// Ends it by a signal; returns how long that took.
        fn end(mut self) -> Duration {
            let start = Instant::now();
            kill(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGTERM,
            )
            .unwrap();
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    let told = fs::read_to_string(&self.errors).unwrap();
                    // A process that still loads its kernel leaves the signal to the kernel.
                    let is_early = self.booted == 0 && status.signal() == Some(15);
                    let code = status.code();
                    assert!(
                        is_early || code == Some(143),
                        "{}: {code:?}: {told}",
                        self.what
                    );
                    assert!(!told.contains("panicked"), "{}: {told}", self.what);
                    fs::remove_file(&self.errors).unwrap();
                    return start.elapsed();
                }
                assert!(start.elapsed() < PATIENCE, "{}: no end", self.what);
                sleep(Duration::from_millis(5));
            }
        }

        /// Fails if it holds more lately than it did when it was young.
        fn is_flat(&self) {
            let (young, late) = (self.young, self.late);
            println!(
                "soak: {}: {} lines\n  young {young:?}\n  late  {late:?}",
                self.what, self.booted
            );
            assert!(self.booted > 0, "{}: the guest printed nothing", self.what);
            let grew = [
                ("threads", young.threads + 2 < late.threads),
                ("files", young.files + 2 < late.files),
                ("timers", young.timers < late.timers),
                ("mappings", young.mappings + 16 < late.mappings),
                ("locks", late.file_locks > 0),
                ("locked memory", late.locked_kib > 0),
                ("memory", young.anonymous_kib + 4096 < late.anonymous_kib),
            ];
            let grew: Vec<_> = grew.iter().filter(|(_, has)| *has).collect();
            assert!(grew.is_empty(), "{}: {grew:?} grew", self.what);
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            // Ends the process if the test has failed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Whether a part of the time has passed, in quarters.
    fn quarter(start: Instant, time: Duration) -> u32 {
        let passed = start.elapsed().as_millis() * 4 / time.as_millis().max(1);
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    #[test]
    #[ignore = "needs /dev/kvm and minutes"]
    fn sixteen_machines_side_by_side_hold_no_more_as_time_passes() {
        let seconds = env::var("SOAK_SECONDS").ok();
        let seconds = seconds.map_or(120, |text| text.parse().unwrap());
        let time = Duration::from_secs(seconds);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = u64::from(clock.subsec_nanos());
        println!("soak: {seconds} s, seed {seed:x}");
        let mut soak = Soak::new(seed);
        let start = Instant::now();
        let long = 0..KINDS.len();
        let mut machines: Vec<_> = long.map(|kind| soak.start(kind, None)).collect();
        let (mut ended, mut slowest, mut reported) = (0, Duration::ZERO, 0);
        while start.elapsed() < time {
            while machines.len() < PLACES {
                let kind = usize::try_from(soak.next(6)).unwrap();
                let most = u64::try_from(SHORT_LIFE.as_millis()).unwrap();
                let life = Duration::from_millis(200 + soak.next(most));
                machines.push(soak.start(kind, Some(life)));
            }
            let quarter = quarter(start, time);
            for machine in &mut machines {
                // The first quarter has the start of every thread, and the largest burst of each kind.
                machine.look(quarter <= 1, quarter >= 2);
            }
            while let Some(old) = machines.iter().position(Machine::is_old) {
                slowest = slowest.max(machines.swap_remove(old).end());
                ended += 1;
            }
            if start.elapsed().as_secs() / 60 > reported {
                reported = start.elapsed().as_secs() / 60;
                println!("soak: {reported} min, {ended} machines ended, slowest {slowest:?}");
            }
            sleep(Duration::from_millis(200));
        }
        for machine in machines.iter().filter(|machine| machine.life.is_none()) {
            machine.is_flat();
        }
        for machine in machines {
            slowest = slowest.max(machine.end());
            ended += 1;
        }
        println!("soak: {ended} machines ended by a signal, the slowest in {slowest:?}");
    }
}
