//! What `--exits` reports.

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use assert_cmd::cargo::CommandCargoExt;
    use serde_json::Value;

    /// Runs the demo guest and returns what it left on standard error.
    fn demo(options: &[&str]) -> String {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.args(["run", "--quiet"]).args(options);
        let run = command.stdin(Stdio::null()).output().unwrap();
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stderr).unwrap()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn json_has_kvm_s_counters_of_each_vcpu_and_timings_stay_the_last_line() {
        for platform in ["none", "xen"] {
            let options = ["--platform", platform, "--cpus", "2"];
            let told = demo(&[&options[..], &["--exits=json", "--timings=json"]].concat());
            let lines: Vec<&str> = told.lines().collect();
            let [exits, timings] = lines[..] else {
                panic!("{told}")
            };
            let exits: Value = serde_json::from_str(exits).unwrap();
            let vcpus = exits["vcpus"].as_array().unwrap();
            assert_eq!(vcpus.len(), 2, "{platform}");
            assert!(vcpus[0]["exits"].as_u64().unwrap() > 0, "{exits}");
            assert!(vcpus[0]["io_exits"].is_u64(), "{exits}");
            assert!(timings.contains("first entry"), "{timings}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn text_is_a_table_and_nothing_is_printed_without_the_option() {
        let told = demo(&["--exits"]);
        let first = told.lines().next().unwrap();
        assert!(
            first.ends_with("exits of the vCPU, as KVM counts them"),
            "{told}"
        );
        assert!(told.contains("  others: "), "{told}");
        assert_eq!(demo(&[]), "");
    }
}
