//! Runs guests with the binary, and checks the output and the exit code.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        process::{Child, Command, Stdio},
        thread,
    };

    use assert_cmd::cargo::{CommandCargoExt, cargo_bin};
    use pvh_testkit::elf::{Class, Elf, Note, Segment};

    use super::guest::obedient;

    fn pvh_vmm() -> Command {
        Command::cargo_bin("pvh-vmm").unwrap()
    }

    /// What a run printed, and its exit code.
    struct Run {
        code: Option<i32>,
        output: Vec<u8>,
        errors: String,
    }

    fn finish(child: Child) -> Run {
        let done = child.wait_with_output().unwrap();
        Run {
            code: done.status.code(),
            output: done.stdout,
            errors: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    /// Runs the obedient guest with `input` on standard input.
    fn run(options: &[&str], input: &[u8]) -> Run {
        let (_dir, kernel) = obedient();
        let mut child = pvh_vmm()
            .arg("run")
            .arg(kernel)
            .args(["--memory", "4M", "--platform", "none"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let typing = thread::spawn(move || {
            // A guest that has ended reads no more.
            let _ = stdin.write_all(&input);
        });
        let run = finish(child);
        typing.join().unwrap();
        run
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_demo_guest_reports_and_powers_off() {
        let mut command = pvh_vmm();
        let child = command
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let run = finish(child.stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert!(
            run.output.len() > 100,
            "{}",
            String::from_utf8_lossy(&run.output)
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn power_off_is_exit_code_0() {
        let run = run(&[], b"P");
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.output, b"B");
        assert_eq!(run.errors, "");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn input_longer_than_the_fifo_arrives_whole_and_in_order() {
        let text: Vec<u8> = (0..20_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        let run = run(&[], &[&text[..], b"P"].concat());
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.output[1..], text[..]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn input_may_come_from_a_file() {
        let (dir, kernel) = obedient();
        let input = dir.path().join("input");
        std::fs::write(&input, [&[b'a'; 5000][..], b"P"].concat()).unwrap();
        let stdin = std::fs::File::open(input).unwrap();
        let mut command = pvh_vmm();
        let child = command
            .arg("run")
            .arg(kernel)
            .args(["--platform", "none"])
            .stdin(stdin)
            .stdout(Stdio::piped());
        let run = finish(child.stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.output.len(), 5001);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_reboot_builds_the_machine_anew() {
        let (_dir, kernel) = obedient();
        let mut command = pvh_vmm();
        command
            .arg("run")
            .arg(kernel)
            .args(["--cpus", "2", "--platform", "none"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        for answer in [b"R", b"R", b"P"] {
            let mut booted = [0];
            stdout.read_exact(&mut booted).unwrap();
            assert_eq!(&booted, b"B");
            stdin.write_all(answer).unwrap();
        }
        let run = finish(child);
        assert_eq!(run.code, Some(0));
        assert_eq!(run.errors, "pvh-vmm: the guest reboots\n".repeat(2));
    }

    /// The limit has room for the memory of one guest, not of two.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_memory_of_a_machine_goes_before_the_next_one_is_built() {
        let (_dir, kernel) = obedient();
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -v 3500000; exec "$0" run "$@""#]);
        command.arg(cargo_bin("pvh-vmm")).arg(kernel);
        command.args(["--memory", "2G", "--platform", "none"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        for answer in [b"R", b"P"] {
            // Nothing comes if the next machine could not be built.
            if stdout.read(&mut [0]).unwrap() == 1 {
                stdin.write_all(answer).unwrap();
            }
        }
        let run = finish(child);
        assert_eq!(run.code, Some(0), "{}", run.errors);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn fifty_reboots_leave_no_descriptor_behind() {
        let (_dir, kernel) = obedient();
        let mut command = pvh_vmm();
        let options = ["--memory", "4M", "--cpus", "2", "--platform", "none"];
        command.arg("run").arg(kernel).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let folder = format!("/proc/{}/fd", child.id());
        let descriptors = || fs::read_dir(&folder).unwrap().count();
        let mut first = None;
        for _ in 0..50 {
            let mut booted = [0];
            stdout.read_exact(&mut booted).unwrap();
            first.get_or_insert_with(descriptors);
            stdin.write_all(b"R").unwrap();
        }
        stdout.read_exact(&mut [0]).unwrap();
        // Threads other than the first vCPU's may not have opened their descriptors yet.
        let (first, last) = (first.unwrap(), descriptors());
        assert!(last < first + 25, "{first} first, {last} in the end");
        stdin.write_all(b"P").unwrap();
        assert_eq!(finish(child).code, Some(0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_reboot_that_is_not_wanted_is_exit_code_6() {
        let line = "pvh-vmm: the guest asked to reboot; --no-reboot ends it\n";
        for (options, told) in [
            (&["--no-reboot"][..], line),
            (&["--no-reboot", "--quiet"], ""),
        ] {
            let run = run(options, b"R");
            assert_eq!((run.code, &run.output[..]), (Some(6), &b"B"[..]));
            assert_eq!(run.errors, told);
        }
    }

    /// Checks that the report of a triple fault names the likely cause, or says that KVM on AMD
    /// does not keep it.
    fn is_explained(errors: &str, rip: &str) -> bool {
        let has = |what| errors.contains(what);
        let is_explained = has(rip) && has("IDTR limit 0") && has("cr3");
        has("vCPU 0: triple fault") && (is_explained || has("registers are lost"))
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_triple_fault_is_a_reboot() {
        let (_dir, kernel) = obedient();
        let mut command = pvh_vmm();
        let options = ["--memory", "4M", "--platform", "none"];
        let command = command.arg("run").arg(kernel).args(options);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        for answer in [b"X", b"X", b"P"] {
            let mut booted = [0];
            stdout.read_exact(&mut booted).unwrap();
            assert_eq!(&booted, b"B");
            stdin.write_all(answer).unwrap();
        }
        let run = finish(child);
        assert_eq!(run.code, Some(0), "{}", run.errors);
        let line = "pvh-vmm: vCPU 0 had a triple fault: the guest reboots\n";
        assert_eq!(run.errors, line.repeat(2));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_triple_fault_that_may_not_reboot_is_exit_code_6_and_is_explained() {
        let run = run(&["--no-reboot"], b"X");
        assert_eq!((run.code, &run.output[..]), (Some(6), &b"B"[..]));
        assert!(is_explained(&run.errors, "rip 0x100033"), "{}", run.errors);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_triple_fault_before_any_output_is_exit_code_5_unless_it_may_be_a_reboot() {
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, *b"\x0F\x0B")) // ud2
            .segment(Segment::notes(&[Note::entry(0x10_0000)]));
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("crash.elf");
        fs::write(&kernel, elf.build()).unwrap();
        for platform in ["none", "xen"] {
            for (options, code, reboots) in [
                (&[][..], 5, 0),
                (&["--no-reboot"], 5, 0),
                (&["--no-reboot", "--on-crash", "reboot"], 6, 0),
                (&["--on-crash", "reboot"], 5, 2),
                (&["--on-crash", "reboot", "--quiet"], 5, 0),
            ] {
                let output = pvh_vmm()
                    .arg("run")
                    .arg(&kernel)
                    .args(["--memory", "4M", "--platform", platform])
                    .args(options)
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(code), "{options:?}: {errors}");
                assert!(is_explained(&errors, "rip 0x100000"), "{errors}");
                let lines = errors
                    .lines()
                    .filter(|line| line.ends_with("the guest reboots"));
                assert_eq!(lines.count(), reboots, "{options:?}: {errors}");
            }
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_reader_of_the_console_that_is_gone_does_not_end_the_guest() {
        let (_dir, kernel) = obedient();
        let mut command = pvh_vmm();
        command
            .arg("run")
            .arg(kernel)
            .args(["--memory", "4M", "--platform", "none"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[b'x'; 1000]).unwrap();
        stdin.write_all(b"P").unwrap();
        let run = finish(child);
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert!(
            run.errors.contains("cannot write console output"),
            "{}",
            run.errors
        );
    }
}
