//! What `--timings` and `--trace` tell of a run.

#[cfg(test)]
mod tests {
    use std::process::{Command, Output, Stdio};

    use assert_cmd::cargo::CommandCargoExt;
    use serde_json::Value;

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
            told.contains("/nonexistent/trace: the trace cannot be written"),
            "{told}"
        );
    }

    /// The second start of a packed kernel finds it unpacked; a folder that cannot be used is said, and harmless.
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
