//! `pvh-vmm tap`, and the commands of docs/conformance-for-vmms.md.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::Path,
        process::{Command, Output, Stdio},
    };

    const OURS: &str = include_str!("../../crates/pvh-conformance/results/plain/pvh-vmm.tap");
    const QEMU: &str = include_str!("../../crates/pvh-conformance/results/plain/qemu-q35-tcg.tap");
    const PAGE: &str = include_str!("../../docs/conformance-for-vmms.md");

    /// Runs `pvh-vmm tap` with this standard input; returns its exit code, output and errors.
    fn tap(arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut command = assert_cmd::Command::cargo_bin("pvh-vmm").unwrap();
        let run = command.arg("tap").args(arguments).write_stdin(input);
        let Output {
            status,
            stdout,
            stderr,
        } = run.output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code().unwrap(), stdout, stderr)
    }

    #[test]
    fn without_an_expectation_every_check_has_to_pass() {
        let (code, text, _) = tap(&[], &format!("BIOS\r\n{OURS}"));
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("every result is as expected"), "{text}");
        let (code, text, _) = tap(&[], QEMU);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("  entry: ecx is 0: absent | not ok (got "),
            "{text}"
        );
    }

    #[test]
    fn with_an_expectation_only_changes_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.tap");
        fs::write(&path, QEMU).unwrap();
        let known = path.to_str().unwrap();
        let (code, text, _) = tap(&["--expect", known], QEMU);
        assert_eq!(code, 0, "{text}");
        let worse = QEMU.replacen("\nok ", "\nnot ok ", 1);
        let (code, text, _) = tap(&["--expect", known], &worse);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("image: the first word of the data is the file's: ok | not ok"),
            "{text}"
        );
    }

    #[test]
    fn a_report_that_breaks_off_or_is_none_has_code_5() {
        let cut = &OURS[..OURS.find("\n1..").unwrap()];
        let (code, text, _) = tap(&[], cut);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("the report is incomplete"), "{text}");
        let (code, _, errors) = tap(&[], "no kernel\n");
        assert_eq!(code, 5);
        assert_eq!(
            errors,
            "pvh-vmm: standard input: the output has no line \"TAP version 14\"\n"
        );
    }

    #[test]
    fn an_expectation_that_cannot_be_used_has_code_3() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.tap");
        let known = path.to_str().unwrap();
        assert_eq!(tap(&["--expect", known], OURS).0, 3);
        fs::write(&path, "TAP version 14\nok 1 - a\n").unwrap();
        let (code, _, errors) = tap(&["--expect", known], OURS);
        assert_eq!(code, 3);
        assert!(
            errors.contains("the report is incomplete; store a whole one"),
            "{errors}"
        );
    }

    /// The lines of the block that begins with this line of the page, without their indentation.
    fn block(first: &str, last: &str) -> String {
        let (_, rest) = PAGE.split_once(first).unwrap();
        let (block, _) = rest.split_once(last).unwrap();
        let lines = block.lines().map(|line| line.trim_start());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn bash(script: &str, dir: &Path) -> Output {
        let program = assert_cmd::cargo::cargo_bin("pvh-vmm");
        let path = std::env::var("PATH").unwrap();
        Command::new("bash")
            .args(["-e", "-c", script])
            .current_dir(dir)
            .env(
                "PATH",
                format!("{}:{path}", program.parent().unwrap().display()),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The step that judges, with a VMM that prints a stored report and ends with code 1.
    #[test]
    fn the_workflow_of_the_page_fails_when_a_result_changes() {
        let judge = block(
            "- name: Judge\n        shell: bash\n        run: |\n",
            "```",
        );
        let dir = tempfile::tempdir().unwrap();
        for folder in ["tests", "target/release"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let vmm = dir.path().join("target/release/my-vmm");
        fs::write(&vmm, "#!/bin/sh\ncat printed.tap\nexit 1\n").unwrap();
        fs::set_permissions(&vmm, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("tests/pvh.tap"), QEMU).unwrap();
        let code = |printed: &str| {
            fs::write(dir.path().join("printed.tap"), printed).unwrap();
            let output = bash(&judge, dir.path());
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("my-vmm ended with 1"), "{text}");
            output.status.code()
        };
        assert_eq!(code(QEMU), Some(0));
        assert_eq!(code(&QEMU.replacen("\nok ", "\nnot ok ", 1)), Some(1));
        assert_eq!(code("panic"), Some(5));
    }

    #[test]
    fn the_command_for_qemu_prints_a_whole_report() {
        if Command::new("qemu-system-x86_64")
            .arg("--version")
            .output()
            .is_err()
        {
            eprintln!("not run: qemu-system-x86_64 is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let guests = dir.path().join("target/guests");
        fs::create_dir_all(&guests).unwrap();
        fs::write(
            guests.join("pvh-conformance-32.elf"),
            pvh_conformance::plain_image(),
        )
        .unwrap();
        let output = bash(&block("```bash\n", "```"), dir.path());
        let text = String::from_utf8_lossy(&output.stdout);
        let report = pvh_conformance::tap::Tap::parse(&text).unwrap();
        assert!(report.is_complete(), "{text}");
        let hash = "modules: module 0: its bytes have the hash of its command line";
        assert!(text.contains(&format!("- {hash}\r\n")), "{text}");
    }
}
