//! What a run takes of its host: a guest that attacks makes nothing grow, and a host that refuses is told in one line.

#[cfg(test)]
mod held;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader},
        path::PathBuf,
        process::{Child, Command, Output, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use assert_cmd::cargo::cargo_bin;
    use tempfile::TempDir;

    use super::held::Held;

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn much_memory_is_told_before_kvm_makes_its_tables() {
        let run = |options: &[&str]| {
            let mut command = Command::new(cargo_bin("pvh-vmm"));
            let command = command.args(["run", "--memory", "1T"]).args(options);
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(0));
            String::from_utf8(output.stderr).unwrap()
        };
        let told = run(&[]);
        let line = told.lines().next().unwrap();
        assert!(
            line.starts_with("pvh-vmm: --memory 1T: KVM first makes its tables"),
            "{told}"
        );
        assert_eq!(run(&["--quiet"]), "");
    }

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn kernel() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attack.elf");
        fs::write(&path, pvh_conformance::attack_image()).unwrap();
        (dir, path)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_attacking_guest_makes_no_resource_of_the_host_grow() {
        let (_dir, kernel) = kernel();
        for (name, cpus, mib) in [
            ("downs", 16, 64_u64),
            ("flush", 8, 64),
            ("balloon", 4, 512),
            ("slots", 8, 64),
            ("resets", 4, 64),
        ] {
            let mut child = Command::new(cargo_bin("pvh-vmm"))
                .arg("run")
                .arg(&kernel)
                .args(["--platform", "xen", "--quiet", "--cmdline", name])
                .args(["--cpus", &cpus.to_string(), "--memory", &format!("{mib}M")])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let running = Running(child);
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert!(line.contains("vCPUs"), "{name}: {line}");
            // Its threads have to start first, each with a stack.
            sleep(Duration::from_millis(500));
            let first = Held::of(running.0.id());
            let mut most = first;
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1500) {
                most = most.most(Held::of(running.0.id()));
                sleep(Duration::from_millis(10));
            }
            // Beside the vCPUs: the builder, the event loop, the time, two writers, and one that
            // ends.
            assert!(most.threads <= cpus + 6, "{name}: {most:?}");
            assert!(most.files <= cpus + 40, "{name}: {most:?}");
            assert!(most.timers <= 2, "{name}: {most:?}");
            assert!(
                most.mappings <= first.mappings + 16,
                "{name}: {first:?}, {most:?}"
            );
            assert_eq!(
                (most.file_locks, most.locked_kib),
                (0, 0),
                "{name}: {most:?}"
            );
            let limit = (mib + 32) * 1024;
            assert!(most.anonymous_kib <= limit, "{name}: {most:?}");
        }
    }

    /// Runs a guest under a limit of the shell.
    fn limited(limit: &str, arguments: &[&str]) -> Output {
        let (_dir, kernel) = kernel();
        let line = format!(r#"ulimit {limit}; exec "$0" run "$@""#);
        Command::new("timeout")
            .args(["--signal=KILL", "60", "bash", "-c", &line])
            .arg(cargo_bin("pvh-vmm"))
            .arg(kernel)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_host_without_descriptors_memory_or_threads_is_told_in_one_line() {
        let few = ["--platform", "xen", "--memory", "64M"];
        let many = ["--platform", "xen", "--memory", "64M", "--cpus", "64"];
        let large = ["--platform", "xen", "--memory", "2G"];
        for (limit, arguments) in [
            ("-n 10", &few[..]),
            ("-n 40", &many[..]),
            // The stack of a thread takes 2 MiB of address space.
            ("-v 180000", &many[..]),
            ("-v 500000", &large[..]),
        ] {
            let output = limited(limit, arguments);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{limit}: {output:?}");
            let lines: Vec<&str> = told.lines().collect();
            assert_eq!(lines.len(), 1, "{limit}: {told}");
            assert!(told.starts_with("pvh-vmm: "), "{limit}: {told}");
        }
    }
}
