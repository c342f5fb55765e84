//! Guests whose memory is mapped from their files.

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
        thread::sleep,
        time::Duration,
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    /// Prints `B`, waits for a byte, writes to a page of its own, and powers off.
    const CODE: &[u8] = &[
        0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
        0xB0, b'B', // mov al, 'B'
        0xEE, // out dx, al
        0x66, 0xBA, 0xFD, 0x03, // mov dx, 0x3FD
        0xEC, // wait: in al, dx
        0xA8, 0x01, // test al, 1
        0x74, 0xFB, // jz wait
        0xC6, 0x05, 0x00, 0x00, 0x18, 0x00, b'!', // mov byte [0x180000], '!'
        0x66, 0xBA, 0x05, 0x06, // mov dx, 0x605
        0xB0, 0x34, // mov al, 0x34
        0xEE, // out dx, al
        0xF4, // hlt
    ];

    /// Prints `B`, then asks again and again for `XENVER_extraversion`, which the VMM writes to a
    /// page of the guest's file.
    const CALLING: &[u8] = &[
        0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
        0xB0, b'B', // mov al, 'B'
        0xEE, // out dx, al
        0xB8, 0x11, 0x00, 0x00, 0x00, // again: mov eax, 17
        0xBB, 0x01, 0x00, 0x00, 0x00, // mov ebx, 1
        0xB9, 0x00, 0x00, 0x18, 0x00, // mov ecx, 0x180000
        0xE7, 0xE4, // out 0xE4, eax
        0xEB, 0xED, // jmp again
    ];

    fn guest() -> (TempDir, PathBuf) {
        guest_of(CODE)
    }

    /// A guest as a file of more than 1 MiB, whose segment lies on page borders.
    fn guest_of(code: &[u8]) -> (TempDir, PathBuf) {
        let segment = Segment::load(0x10_0000, []).with(|segment| {
            segment.offset = Some(0x1000);
            segment.file_size = Some(0x10_0000);
            segment.mem_size = Some(0x10_0000);
        });
        let elf = Elf::new(Class::Elf32)
            .segment(segment)
            .segment(Segment::notes(&[Note::entry(0x10_0000)]));
        let mut file = elf.build();
        file.resize(0x1000, 0);
        file.extend(code);
        file.resize(0x10_1000, 0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.elf");
        std::fs::write(&path, file).unwrap();
        (dir, path)
    }

    fn cut(path: &Path, len: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(len).unwrap();
    }

    fn start(kernel: &Path, load: &str) -> Child {
        start_on(kernel, load, "none")
    }

    fn start_on(kernel: &Path, load: &str, platform: &str) -> Child {
        let mut child = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .arg("run")
            .arg(kernel)
            .args(["--memory", "4M", "--platform", platform, "--load", load])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut first).unwrap();
        assert_eq!(first, *b"B");
        child
    }

    /// Tells the guest to go on, and returns the exit code and standard error.
    fn finish(mut child: Child) -> (Option<i32>, String) {
        // A guest that has crashed reads no more.
        let _ = child.stdin.take().unwrap().write_all(b"P");
        let done = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), errors)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_loses_its_file_ends_with_the_file_s_name() {
        let (_dir, kernel) = guest();
        let child = start(&kernel, "map");
        cut(&kernel, 0x8_0000);
        let (code, errors) = finish(child);
        assert_eq!(code, Some(5), "{errors}");
        let told = errors.lines().next().unwrap();
        let name = kernel.display().to_string();
        assert!(told.contains(&format!("{name} changed from ")), "{told}");
        assert!(told.ends_with("or use --load copy"), "{told}");
    }

    /// Here the VMM, and not the guest, touches the lost page.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_hypercall_to_a_lost_page_ends_the_guest_and_not_the_vmm() {
        let (_dir, kernel) = guest_of(CALLING);
        let child = start_on(&kernel, "map", "xen");
        cut(&kernel, 0x8_0000);
        let (code, errors) = finish(child);
        assert_eq!(code, Some(5), "{errors}");
        assert!(errors.contains("or use --load copy"), "{errors}");
        assert!(errors.contains("guest memory was lost"), "{errors}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_was_copied_does_not_mind() {
        let (_dir, kernel) = guest();
        let child = start(&kernel, "copy");
        cut(&kernel, 0);
        assert_eq!(finish(child), (Some(0), String::new()));
    }

    /// The files are copied a few ms after the start.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn by_default_a_guest_that_has_run_for_a_while_does_not_mind() {
        let (_dir, kernel) = guest();
        let child = start(&kernel, "auto");
        sleep(Duration::from_millis(500));
        cut(&kernel, 0);
        assert_eq!(finish(child), (Some(0), String::new()));
    }

    /// Here the VMM writes to the copied page, again and again.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn by_default_a_hypercall_goes_on_when_the_file_is_cut_later() {
        let (_dir, kernel) = guest_of(CALLING);
        let mut child = start_on(&kernel, "auto", "xen");
        sleep(Duration::from_millis(500));
        cut(&kernel, 0);
        sleep(Duration::from_millis(200));
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Package managers replace files in this way.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_file_may_be_replaced_or_deleted_under_a_guest() {
        let (dir, kernel) = guest();
        let child = start(&kernel, "map");
        std::fs::write(dir.path().join("new"), b"new").unwrap();
        std::fs::rename(dir.path().join("new"), &kernel).unwrap();
        std::fs::remove_file(&kernel).unwrap();
        assert_eq!(finish(child), (Some(0), String::new()));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_s_writes_do_not_reach_its_file() {
        let (_dir, kernel) = guest();
        let before = std::fs::read(&kernel).unwrap();
        let child = start(&kernel, "map");
        assert_eq!(finish(child), (Some(0), String::new()));
        assert!(std::fs::read(&kernel).unwrap() == before);
    }
}
