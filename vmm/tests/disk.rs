//! `--disk`: what is refused, and that a machine with disks ends.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::PathBuf,
        process::{Command, Output, Stdio},
    };

    use assert_cmd::cargo::CommandCargoExt;
    use tempfile::TempDir;

    fn disk(bytes: &[u8]) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn run(arguments: &[&str]) -> Output {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let command = command.arg("run").args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Checks that a run ends with `code` and one line that has these words.
    fn refused(code: i32, arguments: &[&str], words: &[&str]) {
        let output = run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
        for word in words {
            assert!(errors.contains(word), "{word:?} is missing in: {errors}");
        }
    }

    #[test]
    fn wrong_options_are_wrong_arguments() {
        refused(2, &["--disk", ""], &["a disk needs a file"]);
        refused(2, &["--disk", "d,rw"], &["'rw' is not ro", "cache=none"]);
        refused(2, &["--disk", "d,dev=hda"], &["hda", "xvda"]);
        let convert = "qemu-img convert -O raw d d.raw";
        refused(2, &["--disk", "d,format=qcow2"], &[convert]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_plain_machine_has_no_disks() {
        let (_dir, path) = disk(&[0; 512]);
        let disk = path.to_str().unwrap();
        let arguments = ["--platform", "none", "--disk", disk];
        refused(
            2,
            &arguments,
            &["--disk needs the Xen platform", "leave --disk out"],
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn files_that_are_no_disks_are_refused_with_the_way_out() {
        let (_dir, path) = disk(&[0; 513]);
        let disk = path.to_str().unwrap();
        let xen = ["--platform", "xen", "--disk", disk];
        refused(3, &xen, &[disk, "513 bytes", "truncate -s %512"]);
        fs::write(&path, b"QFI\xfb").unwrap();
        refused(
            3,
            &xen,
            &[disk, "qcow2", "qemu-img convert -O raw", "format=raw"],
        );
        fs::remove_file(&path).unwrap();
        refused(3, &xen, &[disk, "No such file"]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn one_file_is_one_disk_and_one_name_is_one_disk() {
        let (_dir, path) = disk(&[0; 512]);
        let disk = path.to_str().unwrap();
        let twice = ["--platform", "xen", "--disk", disk, "--disk", disk];
        refused(3, &twice, &[disk, "in use"]);
        let named = format!("{disk},ro,dev=xvdb");
        let twice = ["--platform", "xen", "--disk", &named, "--disk", &named];
        refused(2, &twice, &["two disks are named xvdb", "dev=NAME"]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_ignores_its_disks_ends_and_they_are_as_they_were() {
        let (_dir, path) = disk(&[7; 4096]);
        let disk = path.to_str().unwrap();
        let (_dir, other) = self::disk(&[8; 512]);
        let other = format!("{},ro,dev=xvdz", other.to_str().unwrap());
        let output = run(&["--platform", "xen", "--disk", disk, "--disk", &other]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("PVH demo: ok"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), [7; 4096]);
        let output = run(&["--platform", "xen", "--disk", disk]);
        assert_eq!(output.status.code(), Some(0), "the lock is gone");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_record_of_a_machine_with_a_disk_is_replayed() {
        let (dir, path) = disk(&[7; 4096]);
        let disk = path.to_str().unwrap();
        let record = dir.path().join("record");
        let file = record.to_str().unwrap();
        let records = |arguments: &[&str]| {
            let output = run(&[&["--platform", "xen", "--record", file], arguments].concat());
            assert_eq!(output.status.code(), Some(0));
            let file = fs::File::open(&record).unwrap();
            pvh_domain::replay(file).unwrap().records
        };
        // The nodes of the device, and those of its back end that is ready.
        assert_eq!(records(&["--disk", disk]), records(&[]) + 2);
        refused(
            2,
            &["--platform", "xen", "--disk", disk, "--record", disk],
            &["--record", "reads or writes that file"],
        );
    }
}
