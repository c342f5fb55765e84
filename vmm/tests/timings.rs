//! What `--timings` and `--trace` report.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read,
        os::unix::process::ExitStatusExt,
        path::Path,
        process::{Child, Command, Output, Stdio},
        thread::sleep,
        time::Duration,
    };

    use assert_cmd::cargo::{CommandCargoExt, cargo_bin};
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use serde_json::Value;
    use tempfile::TempDir;

    fn demo(options: &[&str]) -> Output {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.args(["run", "--platform", "none"]).args(options);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn names(list: &Value) -> Vec<&str> {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_step_to_the_first_output_is_told() {
        let run = demo(&["--timings=json"]);
        assert!(run.status.success());
        let told = String::from_utf8(run.stderr).unwrap();
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let steps = names(&told["steps"]);
        for step in [
            "open kernel",
            "open KVM",
            "plan",
            "load",
            "machine",
            "vCPUs",
        ] {
            assert!(steps.contains(&step), "{step}: {steps:?}");
        }
        assert_eq!(
            names(&told["moments"]),
            ["first entry", "first exit", "first output"]
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn without_a_style_it_is_text_and_without_the_option_nothing() {
        let run = demo(&["--timings"]);
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(
            told.contains("took ms") && told.contains("first entry"),
            "{told}"
        );
        let run = demo(&[]);
        assert!(
            !String::from_utf8(run.stderr)
                .unwrap()
                .contains("first entry")
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_trace_is_written_beside_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let run = demo(&["--trace", path.to_str().unwrap()]);
        assert!(run.status.success());
        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(names(&trace["traceEvents"]).contains(&"load"));
        let nowhere = demo(&["--trace", "/nonexistent/trace"]);
        assert_eq!(nowhere.status.code(), Some(4));
        assert!(nowhere.stdout.is_empty(), "the guest did not run");
        let told = String::from_utf8(nowhere.stderr).unwrap();
        assert!(
            told.contains("/nonexistent/trace: cannot write the trace"),
            "{told}"
        );
    }

    /// Starts a guest of `code` on the plain platform. The directory is removed when the first
    /// value is dropped.
    fn machine(code: &[u8], options: &[&str]) -> (TempDir, Child) {
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, code))
            .segment(Segment::notes(&[Note::entry(0x10_0000)]));
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel");
        fs::write(&kernel, elf.build()).unwrap();
        // If the test runner ignores signals (nohup does), pvh-vmm would inherit that.
        let child = Command::new("env")
            .arg("--default-signal")
            .arg(cargo_bin("pvh-vmm"))
            .args(["run", "--platform", "none", "--memory", "4M"])
            .args(options)
            .arg(kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (dir, child)
    }

    /// Sends SIGTERM again and again until the process has ended.
    fn terminate(mut child: Child) -> Output {
        let pid = Pid::from_raw(child.id().cast_signed());
        while child.try_wait().unwrap().is_none() {
            kill(pid, Signal::SIGTERM).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    fn moments(output: &Output) -> Vec<String> {
        let told: Value = serde_json::from_slice(&output.stderr).unwrap();
        names(&told["moments"])
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn signals_in_a_row_do_not_keep_anything_from_being_told() {
        let trace = tempfile::tempdir().unwrap();
        let trace = trace.path().join("trace.json");
        // mov dx, 0x3F8; mov al, 'B'; out dx, al; jmp to itself.
        let code = b"\x66\xBA\xF8\x03\xB0B\xEE\xEB\xFE";
        let options = ["--timings=json", "--trace", trace.to_str().unwrap()];
        let (_dir, mut child) = machine(code, &options);
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        let run = terminate(child);
        assert_eq!((run.status.code(), run.status.signal()), (Some(143), None));
        assert_eq!(moments(&run), ["first entry", "first exit", "first output"]);
        let trace: Value = serde_json::from_slice(&fs::read(&trace).unwrap()).unwrap();
        assert!(names(&trace["traceEvents"]).contains(&"load"));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_is_called_out_has_not_exited_by_itself() {
        // jmp to itself.
        let (_dir, child) = machine(b"\xEB\xFE", &["--timings=json"]);
        while processor_ticks(child.id()) < 50 {
            sleep(Duration::from_millis(10));
        }
        assert_eq!(moments(&terminate(child)), ["first entry"]);
    }

    /// Processor time that only a spinning guest uses: much more than the start takes.
    fn processor_ticks(pid: u32) -> u64 {
        let stat =
            fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11);
        fields
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum()
    }

    /// The second start of a packed kernel finds it unpacked. A folder that cannot be used is
    /// reported, and the guest runs anyway.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_cache_that_cannot_be_used_is_complained_of_and_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel");
        std::fs::write(&kernel, pvh_conformance::demo_image()).unwrap();
        let run = demo(&["--cache", "/dev/null", kernel.to_str().unwrap()]);
        assert!(run.status.success());
        let told = String::from_utf8(run.stderr).unwrap();
        let line = "the cache folder /dev/null cannot be used";
        assert!(
            told.contains(line) && told.contains("unpacked without it"),
            "{told}"
        );
    }
}
