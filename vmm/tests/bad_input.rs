//! Mistakes of the user: each gets one line that says what is wrong, where, and what to do, and an
//! exit code.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs::{self, File},
        os::unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
            process::CommandExt,
        },
        process::Command,
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    use super::guest::obedient;

    /// Runs the binary and checks that it ended with `code` and one line, which it returns.
    fn refusal(code: i32, arguments: &[&str]) -> String {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command
            .args(arguments)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
        assert!(errors.starts_with("pvh-vmm: "), "{errors}");
        assert!(output.stdout.is_empty());
        errors
    }

    fn says(line: &str, words: &[&str]) {
        for word in words {
            assert!(line.contains(word), "{word:?} is missing in: {line}");
        }
    }

    fn file(bytes: &[u8]) -> (TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    fn elf(class: Class) -> Elf {
        Elf::new(class).segment(Segment::load(0x10_0000, vec![0xf4; 0x9000]))
    }

    fn bootable() -> Vec<u8> {
        elf(Class::Elf64)
            .segment(Segment::notes(&[Note::entry(0x10_0000)]))
            .build()
    }

    #[test]
    fn a_kernel_that_is_not_there() {
        says(
            &refusal(3, &["run", "/nonexistent/vmlinuz"]),
            &["/nonexistent/vmlinuz", "No such file"],
        );
    }

    /// A directory that anyone may enter.
    fn open_directory() -> TempDir {
        let everyone = fs::Permissions::from_mode(0o755);
        tempfile::Builder::new()
            .permissions(everyone)
            .tempdir()
            .unwrap()
    }

    /// A copy of the binary that anyone may run, and a file that only its owner may use. The test
    /// runs the copy as another user, because root may open every file.
    fn as_somebody_else(arguments: &[&str]) -> (String, Option<i32>) {
        const NOBODY: u32 = 65534;
        let dir = open_directory();
        let binary = dir.path().join("pvh-vmm");
        // `cp` makes the copy: if this process wrote it, a child of another test could inherit the
        // descriptor, and a file that is open for writing cannot be run.
        let original = assert_cmd::cargo::cargo_bin("pvh-vmm");
        let copied = Command::new("cp").args([&original, &binary]).status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(&binary);
        command.args(arguments);
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY);
        }
        let output = command.output().unwrap();
        (
            String::from_utf8(output.stderr).unwrap(),
            output.status.code(),
        )
    }

    /// A file that nobody may open, in a directory that everybody may enter.
    fn forbidden(bytes: &[u8]) -> (TempDir, String) {
        let dir = open_directory();
        let path = dir.path().join("forbidden");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn a_kernel_that_may_not_be_read() {
        let (_dir, path) = forbidden(&bootable());
        let (line, code) = as_somebody_else(&["run", &path]);
        assert_eq!(code, Some(3), "{line}");
        says(&line, &[&path, "Permission denied"]);
    }

    #[test]
    fn a_kvm_device_that_is_not_there() {
        let line = refusal(4, &["run", "--kvm-device", "/nonexistent/kvm"]);
        says(
            &line,
            &["/nonexistent/kvm does not exist", "check its path"],
        );
        assert!(!line.contains("kvm_amd"), "{line}");
    }

    #[test]
    fn a_kvm_device_that_may_not_be_opened() {
        let (_dir, path) = forbidden(b"");
        let (line, code) = as_somebody_else(&["run", "--kvm-device", &path]);
        assert_eq!(code, Some(4), "{line}");
        says(&line, &[&path, "no permission", "group"]);
    }

    #[test]
    fn a_kvm_device_that_is_none() {
        says(
            &refusal(4, &["run", "--kvm-device", "/dev/null"]),
            &["/dev/null"],
        );
    }

    #[test]
    fn a_directory() {
        says(&refusal(3, &["run", "/"]), &["/: ", "is a directory"]);
    }

    #[test]
    fn an_empty_file() {
        let (_dir, path) = file(b"");
        says(&refusal(3, &["run", &path]), &[&path, "empty"]);
    }

    #[test]
    fn an_empty_standard_input_is_called_so() {
        for command in ["run", "inspect"] {
            let line = refusal(3, &[command, "-"]);
            assert!(line.starts_with("pvh-vmm: standard input: "), "{line}");
        }
    }

    #[test]
    fn a_kernel_cut_at_every_page() {
        let whole = bootable();
        for end in (0..whole.len()).step_by(4096) {
            let (_dir, path) = file(&whole[..end]);
            refusal(3, &["run", &path]);
        }
    }

    #[test]
    fn a_kernel_for_another_machine() {
        let arm = elf(Class::Elf64)
            .segment(Segment::notes(&[Note::entry(0x10_0000)]))
            .machine(183);
        let (_dir, path) = file(&arm.build());
        says(&refusal(3, &["run", &path]), &["AArch64", "x86"]);
    }

    #[test]
    fn a_kernel_without_the_note() {
        let (_dir, path) = file(&elf(Class::Elf64).build());
        says(
            &refusal(3, &["run", &path]),
            &["no PVH entry point", "CONFIG_PVH=y"],
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_a_kernel_larger_than_memory() {
        let big = Elf::new(Class::Elf64)
            .segment(Segment::load(0x10_0000, vec![0xf4; 16]).mem_size(64 << 20))
            .segment(Segment::notes(&[Note::entry(0x10_0000)]));
        let (_dir, path) = file(&big.build());
        says(
            &refusal(3, &["run", &path, "--memory", "32M"]),
            &[&path, "segment 0", "MiB of RAM"],
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_an_initrd_that_does_not_fit() {
        let (_dir, kernel) = obedient();
        let dir = tempfile::tempdir().unwrap();
        let initrd = dir.path().join("initrd.gz");
        File::create(&initrd).unwrap().set_len(64 << 20).unwrap();
        let (kernel, initrd) = (kernel.to_str().unwrap(), initrd.to_str().unwrap());
        let line = refusal(3, &["run", kernel, "--initrd", initrd, "--memory", "32M"]);
        says(&line, &["initrd.gz", "64 MiB contiguous", "MiB of RAM"]);
        // The line names the initrd only, not the kernel or the number of the module.
        let told = format!("pvh-vmm: --initrd {initrd}: needs 64 MiB ");
        assert!(line.starts_with(&told), "{line}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_modules_that_cannot_be_used() {
        says(
            &refusal(3, &["run", "--initrd", "/nonexistent"]),
            &[
                "pvh-vmm: --initrd /nonexistent: ",
                "No such file",
                "; check the path after --initrd",
            ],
        );
        says(
            &refusal(3, &["run", "--module", "-"]),
            &[
                "No such file",
                "; give standard input as --module /dev/stdin",
            ],
        );
        says(
            &refusal(3, &["run", "--module", "/=x"]),
            &[
                "pvh-vmm: --module /: ",
                "not a regular file; give a file or a pipe",
            ],
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_a_module_that_hides_its_length() {
        let line = refusal(3, &["run", "--initrd", "/proc/cpuinfo"]);
        says(&line, &["/proc/cpuinfo", "copy it to a regular file"]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_a_module_that_is_shorter_than_it_says() {
        let line = refusal(3, &["run", "--initrd", "/sys/kernel/uevent_seqnum"]);
        says(
            &line,
            &["/sys/kernel/uevent_seqnum: ", "do not change the module"],
        );
    }

    #[test]
    fn a_name_with_control_characters_stays_in_one_line() {
        let line = refusal(3, &["run", "/nonexistent\n\x1b[31mred"]);
        says(&line, &["/nonexistent\\n\\u{1b}[31mred"]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_arguments_need_not_be_utf_8() {
        let odd = OsStr::from_bytes(b"a\xff");
        let mut module = OsStr::from_bytes(b"/nonexistent-\xff=").to_owned();
        module.push(odd);
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        command
            .args(["run", "--cmdline"])
            .arg(odd)
            .arg("--module")
            .arg(module);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }

    #[test]
    fn a_report_that_is_lost_is_a_failure() {
        let (_dir, path) = file(&bootable());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command
            .args(["inspect", &path])
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4));
        says(
            &String::from_utf8(output.stderr).unwrap(),
            &["standard output", "No space left"],
        );
    }

    #[test]
    fn no_cpu_and_too_many() {
        for cpus in ["0", "100000", "two", "", "99999999999"] {
            let value = format!("'{cpus}'");
            says(
                &refusal(2, &["run", "--cpus", cpus]),
                &[&value, "--cpus", "a machine has 1 to 255 CPUs"],
            );
        }
    }

    #[test]
    fn no_memory_at_all() {
        for size in ["0", "0M"] {
            let line = refusal(2, &["run", "--memory", size]);
            says(&line, &["--memory", "a guest needs memory, as in 512M"]);
            assert!(!line.contains("did you mean"), "{line}");
        }
        says(
            &refusal(2, &["run", "--memory", "1"]),
            &["1 byte; did you mean 1M?"],
        );
    }

    #[test]
    fn a_kernel_where_a_command_belongs() {
        let (_dir, path) = file(b"");
        let way = format!("did you mean `pvh-vmm run {path}`?");
        says(&refusal(2, &[&path, "--cpus", "2"]), &[&way]);
        let line = refusal(2, &["/nonexistent/vmlinuz"]);
        assert!(!line.contains("did you mean"), "{line}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_memory_that_cannot_be() {
        says(&refusal(2, &["run", "--memory", "0"]), &["--memory"]);
        says(
            &refusal(2, &["run", "--memory", "2000000"]),
            &["--memory 2000000 bytes must be a multiple of 4K"],
        );
        says(
            &refusal(3, &["run", "--memory", "4K", "--platform", "none"]),
            &["--memory 4K", "larger --memory"],
        );
        says(
            &refusal(3, &["run", "--memory", "4K", "--platform", "xen"]),
            &["no RAM at 0x100000", "give the guest 2 MiB of RAM or more"],
        );
        says(
            &refusal(4, &["run", "--memory", "16777215T"]),
            &["--memory 16777215T", "address bits", "at most"],
        );
    }

    #[test]
    fn arguments_that_clap_refuses_end_with_2_and_one_line() {
        says(
            &refusal(2, &["run", "--frobnicate"]),
            &["--frobnicate", "; see --help"],
        );
        says(&refusal(2, &["run", "--memroy", "1G"]), &["'--memory'"]);
        says(&refusal(2, &["walk"]), &["'walk'"]);
        says(&refusal(2, &[]), &["a command is missing"]);
        says(&refusal(2, &["run", "--memory", "lots"]), &["as in 512M"]);
        says(
            &refusal(2, &["run", "--memory", "512"]),
            &["512 bytes; did you mean 512M?"],
        );
        let line = refusal(2, &["run", "--\x1b[31m"]);
        assert!(!line.contains('\x1b'), "{line}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_a_command_line_with_a_leading_dash_is_the_guest_s() {
        for text in ["--verbose /x", "-v"] {
            let mut command = Command::cargo_bin("pvh-vmm").unwrap();
            let output = command.args(["run", "--cmdline", text]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            says(&String::from_utf8_lossy(&output.stdout), &[text]);
        }
    }
}
