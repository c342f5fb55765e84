//! Kernels and modules that come through a pipe or from standard input.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        process::{Command, Output, Stdio},
    };

    use assert_cmd::cargo::{CommandCargoExt, cargo_bin};

    use super::guest::obedient;

    /// Runs the binary with `input` through a pipe on standard input.
    fn with_input(arguments: &[&str], input: &[u8]) -> Output {
        let mut command = assert_cmd::Command::cargo_bin("pvh-vmm").unwrap();
        command.args(arguments).write_stdin(input).output().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn inspect_reads_a_kernel_from_standard_input() {
        let output = with_input(&["inspect", "-"], pvh_conformance::demo_image());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).starts_with("standard input: ELF"));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kernel_comes_through_a_pipe() {
        let output = with_input(
            &["run", "-", "--platform", "none"],
            pvh_conformance::demo_image(),
        );
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("PVH demo: ok"));
    }

    /// The guest echoes its input, so its image would show if it were typed to the guest.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kernel_file_on_standard_input_is_not_typed_to_the_guest() {
        let (_dir, kernel) = obedient();
        let output = Command::new("timeout")
            .args(["--signal=TERM", "3"])
            .arg(cargo_bin("pvh-vmm"))
            .args(["run", "-", "--memory", "4M", "--platform", "none"])
            .stdin(File::open(&kernel).unwrap())
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), "B", "{output:?}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn output_that_a_full_disk_does_not_take_is_told_and_is_no_success() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .args(["run", "--platform", "none"])
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let told = text(&output.stderr);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("No space left on device"), "{told}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_initrd_comes_through_a_pipe_and_fits_into_memory() {
        let options = ["run", "--platform", "none", "--initrd", "/dev/stdin"];
        let output = with_input(&options, b"12345");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let page = text(&output.stdout);
        assert!(page.contains("size=0x0000000000000005"), "{page}");

        let options = [&options[..], &["--memory", "4M"]].concat();
        let output = with_input(&options, &vec![0; 5 << 20]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let told = text(&output.stderr);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.contains("more than 4 MiB came through the pipe"),
            "{told}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_initrd_comes_from_another_command_of_the_shell() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("initrd");
        fs::write(&file, b"1234567").unwrap();
        let line = r#""$0" run --platform none --initrd <(cat "$1")"#;
        let output = Command::new("bash")
            .args(["-c", line])
            .arg(cargo_bin("pvh-vmm"))
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("size=0x0000000000000007"));
    }
}
