//! `pvh-vmm conform`: the conformance guest here, against its report from Xen.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{self, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use assert_cmd::{Command, cargo::cargo_bin};
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use pvh_conformance::{
        report_of_pvh_vmm,
        tap::{Outcome, Tap},
    };
    use serde_json::Value;

    fn conform(arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        command.arg("conform").args(arguments);
        command
    }

    #[test]
    fn a_kvm_that_is_not_there_is_said_once_and_is_the_host_s_fault() {
        let assert = conform(&["--kvm-device", "/nonexistent/kvm"])
            .assert()
            .code(4);
        let output = assert.get_output();
        assert!(output.stdout.is_empty());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("/nonexistent/kvm"), "{said}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_guest_finds_what_it_found_on_xen_or_a_known_difference() {
        let assert = conform(&["--json"]).assert();
        let output = assert.get_output();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["complete"], true, "{report:#}");
        assert_eq!(report["unexplained"], 0, "{report:#}");
        assert_eq!(output.status.code(), Some(0));
        let stored = Tap::parse(report_of_pvh_vmm()).unwrap();
        let failed = stored.checks.iter();
        let failed = failed.filter(|check| check.outcome == Outcome::Failed);
        let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
        for difference in report["differences"].as_array().unwrap() {
            let name = difference["check"].as_str().unwrap();
            let is_stored = failed.contains(&name);
            assert!(
                is_stored || difference["here"]["outcome"] != "not ok",
                "{difference}"
            );
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_part_of_the_checks_can_be_run_and_the_rest_is_not_missed() {
        let assert = conform(&["--cmdline", "only=version"]).assert().code(0);
        let said = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        assert!(said.contains(" 0 not ok"), "{said}");
        assert!(said.contains("0 unexplained differences"), "{said}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_goes_with_a_section_can_be_left_out() {
        for cmdline in ["no=user", "only=misc", "only=misc,wide", "only=narrow"] {
            let assert = conform(&["--cmdline", cmdline]).assert().code(0);
            let said = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
            assert!(said.contains("0 unexplained differences"), "{said}");
        }
    }

    #[test]
    fn a_section_that_does_not_exist_is_refused() {
        let assert = conform(&["--cmdline", "only=evens"]).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("no section 'evens'"), "{said}");
        assert!(said.contains("event-errors"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn a_word_that_chooses_nothing_is_refused() {
        let assert = conform(&["--cmdline", "bogus"]).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("'bogus' is neither only="), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn a_command_line_that_chooses_no_check_is_refused() {
        let assert = conform(&["--cmdline", "only=wide"]).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("'only=wide' selects no check"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_signal_ends_the_guest_s_process_too() {
        // If the test runner ignores signals (nohup does), pvh-vmm would inherit that.
        let mut conform = process::Command::new("env")
            .arg("--default-signal")
            .arg(cargo_bin("pvh-vmm"))
            .arg("conform")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = conform.id();
        let start = Instant::now();
        let guest = loop {
            if let Some(guest) = guest_of(pid) {
                break guest;
            }
            assert!(start.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(1));
        };
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(conform.wait().unwrap().code(), Some(143));
        assert!(!Path::new(&format!("/proc/{guest}")).exists());
    }

    /// The child of `pid` that has the argument `run`.
    fn guest_of(pid: u32) -> Option<u32> {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let child: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            let runs = words.windows(5).any(|word| word == b"\0run\0");
            (runs && parent.trim() == pid.to_string()).then_some(child)
        })
    }
}
