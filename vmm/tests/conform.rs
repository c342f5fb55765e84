//! `pvh-vmm conform`: the conformance guest here, against its report from Xen.

#[cfg(test)]
mod tests {
    use assert_cmd::Command;
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
        assert!(said.contains("0 differ and are not explained"), "{said}");
    }

    #[test]
    fn a_section_that_does_not_exist_is_refused() {
        let assert = conform(&["--cmdline", "only=evens"]).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("no section 'evens'"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
