//! The options of the Xen platform: what is recorded, what is patched, and what is refused.

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        path::Path,
        process::{Command, Output, Stdio},
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_domain::{Replayed, replay};
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    /// Makes a hypercall through each stub, and powers off if the first one returned Xen 4.17's
    /// version.
    const CODE: &[u8] = &[
        0xBC, 0x00, 0x02, 0x10, 0x00, // mov esp, 0x100200
        0xB8, 0x11, 0x00, 0x00, 0x00, // mov eax, 17 (xen_version)
        0x31, 0xDB, // xor ebx, ebx (XENVER_version)
        0x31, 0xC9, // xor ecx, ecx
        0xE8, 0x2D, 0x00, 0x00, 0x00, // call first
        0x3D, 0x11, 0x00, 0x04, 0x00, // cmp eax, 4 << 16 | 17
        0x75, 0x17, // jne crash
        0xB8, 0x1D, 0x00, 0x00, 0x00, // mov eax, 29 (sched_op)
        0xBB, 0x02, 0x00, 0x00, 0x00, // mov ebx, 2 (SCHEDOP_shutdown)
        0xB9, 0x00, 0x01, 0x10, 0x00, // mov ecx, 0x100100 (reason: power off)
        0xE8, 0x22, 0x00, 0x00, 0x00, // call second
        0xF4, // hlt
        0x90, 0x90, // nop
        0x0F, 0x0B, // crash: ud2
    ];

    /// A kernel that says it is Linux, and calls without a hypercall page, through two stubs at
    /// offsets 64 and 80.
    fn bare(code: &[u8]) -> (TempDir, String) {
        let mut image = vec![0; 0x200];
        image[..code.len()].copy_from_slice(code);
        image[64..68].copy_from_slice(b"\x0f\x01\xd9\xc3");
        image[68..80].fill(0xcc);
        image[80..84].copy_from_slice(b"\x0f\x01\xc1\xc3");
        let notes = [Note::entry(0x10_0000), Note::xen(6, *b"linux\0")];
        let elf = Elf::new(Class::Elf64)
            .segment(Segment::load(0x10_0000, image))
            .segment(Segment::notes(&notes));
        file(&elf.build())
    }

    fn file(bytes: &[u8]) -> (TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    fn run(arguments: &[&str]) -> (Output, String) {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.arg("run").args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, errors)
    }

    fn refused(code: i32, arguments: &[&str], words: &[&str]) {
        let (output, errors) = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        for word in words {
            assert!(errors.contains(word), "{word:?} is missing in: {errors}");
        }
    }

    fn replayed(path: &Path) -> Replayed {
        replay(File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn without_the_xen_platform_its_options_are_errors() {
        let plain = ["--platform", "none"];
        let record = ["--record", "/nonexistent"];
        let log = ["--log", "hypercalls"];
        for option in [&["--patch-hypercalls"][..], &record, &log] {
            let arguments = [&plain[..], option].concat();
            refused(2, &arguments, &[option[0], "leave", "--platform xen"]);
        }
    }

    #[test]
    fn a_name_that_selects_nothing_is_refused_with_the_names_that_do() {
        let words = ["no_such_op", "sub-operation", "store"];
        refused(2, &["--log", "hypercalls=poll,no_such_op"], &words);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn hypercalls_are_logged_while_the_guest_runs() {
        let (_dir, kernel) = bare(CODE);
        let options = [&kernel, "--platform", "xen", "--patch-hypercalls", "--log"];
        let (output, errors) = run(&[&options[..], &["hypercalls=hypercall"]].concat());
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(errors.contains("xen_version(version, "), "{errors}");
        assert!(
            errors.contains("sched_op(shutdown, 0x100100, {reason=poweroff})"),
            "{errors}"
        );
        let (_, errors) = run(&[&options[..], &["hypercalls=version"]].concat());
        assert!(errors.contains("xen_version(version, "), "{errors}");
        assert!(!errors.contains("sched_op"), "{errors}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn where_auto_takes_no_xen_its_options_are_errors_that_say_why() {
        let (_dir, kernel) = bare(CODE);
        let serial = [&kernel, "--cmdline", "console=ttyS0", "--patch-hypercalls"];
        refused(2, &serial, &["--patch-hypercalls", "serial port"]);
    }

    #[test]
    fn a_kernel_without_a_pair_of_stubs_is_refused() {
        let kernel = Elf::bootable(Class::Elf64, 0x10_0000).build();
        let (_dir, kernel) = file(&kernel);
        let words = ["no hypercall stub", "leave --patch-hypercalls out"];
        refused(3, &[&kernel, "--patch-hypercalls"], &words);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_record_that_cannot_be_written_is_refused_before_the_guest_starts() {
        let options = ["--platform", "xen", "--record", "/nonexistent/record"];
        refused(4, &options, &["/nonexistent/record", "--record"]);
    }

    #[test]
    fn what_is_read_is_not_written_over() {
        let bytes = Elf::bootable(Class::Elf64, 0x10_0000).build();
        let (dir, kernel) = file(&bytes);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&kernel, &link).unwrap();
        let link = link.to_str().unwrap();
        for option in ["--record", "--trace"] {
            refused(2, &[&kernel, option, link], &[option, "another option"]);
            let module = format!("{link}=text");
            let options = ["/nonexistent", "--module", &module, option, &kernel];
            refused(2, &options, &[option]);
        }
        let new = dir.path().join("new");
        let new = new.to_str().unwrap();
        refused(2, &[&kernel, "--record", new, "--trace", new], &["--trace"]);
        assert_eq!(std::fs::read(&kernel).unwrap(), bytes);
    }

    #[test]
    fn what_is_written_goes_into_a_file() {
        let (dir, kernel) = file(&Elf::bootable(Class::Elf64, 0x10_0000).build());
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for option in ["--record", "--trace"] {
            for path in [pipe.to_str().unwrap(), "/dev/zero", "/"] {
                let words = [option, path, "not a regular file", "another file"];
                refused(2, &[&kernel, option, path], &words);
            }
        }
        let nowhere = "/nonexistent/trace";
        refused(4, &[&kernel, "--trace", nowhere], &[nowhere, "--trace"]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_record_or_trace_that_is_cut_short_is_told_and_is_no_success() {
        let (dir, kernel) = file(pvh_conformance::soak_image());
        let pvh_vmm = assert_cmd::cargo::cargo_bin("pvh-vmm");
        for option in ["--record", "--trace"] {
            let path = dir.path().join(option);
            let output = Command::new("sh")
                .args(["-c", r#"ulimit -f 1; exec "$0" run "$@""#])
                .arg(&pvh_vmm)
                .args([&kernel, "--platform", "xen", "--cpus", "4"])
                .args(["--memory", "32M", "--load", "copy", "--cache", "none"])
                .arg(option)
                .arg(&path)
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
            assert!(errors.contains("File too large"), "{errors}");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.starts_with("soak: ok"), "{said}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kernel_that_calls_bare_is_served_when_its_stubs_are_patched() {
        let (_dir, kernel) = bare(CODE);
        let options = [&kernel, "--memory", "8M", "--patch-hypercalls"];
        let (output, errors) = run(&[&options[..], &["--platform", "xen"]].concat());
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert_eq!(errors, "");
        let (output, errors) = run(&options);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(
            errors.contains("platform xen") && errors.contains("patched"),
            "{errors}"
        );
        // The file is unchanged: the next run patches the kernel again.
        let inspected = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .args(["inspect", &kernel])
            .output();
        let page = String::from_utf8(inspected.unwrap().stdout).unwrap();
        assert!(page.contains("VMMCALL at 0x100040"), "{page}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_recorded_run_is_played_again_without_kvm() {
        let (dir, kernel) = file(pvh_conformance::soak_image());
        let record = dir.path().join("record");
        let xen = ["--platform", "xen", "--cpus", "4", "--memory", "32M"];
        let options = [
            &kernel,
            "--cmdline",
            "seed=1",
            "--record",
            record.to_str().unwrap(),
        ];
        let (output, errors) = run(&[&options[..], &xen].concat());
        assert_eq!(output.status.code(), Some(0), "{errors}");
        let replayed = replayed(&record);
        assert!(
            replayed.hypercalls > 50 && replayed.effects > 5,
            "{replayed:?}"
        );
    }
}
