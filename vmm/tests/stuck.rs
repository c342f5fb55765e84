//! Signals end a run although nobody reads its standard error.

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{Read, Write},
        process::{Command, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use pvh_testkit::elf::{Class, Elf, Note, Segment};

    /// Prints `B`, waits a little, writes more to its log than the pipe and the queue hold, and
    /// crashes.
    #[rustfmt::skip]
    const CODE: &[u8] = &[
        0x66, 0xBA, 0xF8, 0x03, 0xB0, b'B', 0xEE, // mov dx, 0x3F8; mov al, 'B'; out dx, al
        0xB9, 0x00, 0x00, 0x18, 0x00,           // mov ecx, 0x180000
        0x49, 0x75, 0xFD,                       // wait: dec ecx; jnz wait
        0xBB, 200, 0, 0, 0,                     // mov ebx, 200
        0xBE, 0x29, 0x00, 0x10, 0x00,           // again: mov esi, TEXT
        0xB9, 0xC0, 0x03, 0, 0,                 // mov ecx, 960
        0x66, 0xBA, 0xE9, 0x00,                 // mov dx, 0xE9
        0xF3, 0x6E,                             // rep outsb
        0x4B, 0x75, 0xED,                       // dec ebx; jnz again
        0x0F, 0x0B,                             // ud2; TEXT
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn after_a_crash_a_signal_ends_it_though_nobody_reads_what_is_said() {
        let text = [&[b'x'; 95][..], b"\n"].concat().repeat(10);
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, [CODE, &text].concat()))
            .segment(Segment::notes(&[Note::entry(0x10_0000)]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.elf");
        fs::write(&path, elf.build()).unwrap();
        // If the test runner ignores signals (nohup does), pvh-vmm would inherit that.
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(assert_cmd::cargo::cargo_bin("pvh-vmm"))
            .arg("run")
            .arg(&path)
            .args(["--platform", "xen", "--memory", "4M"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut booted = [0];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut booted).unwrap();
        // The kernel file changed during the run; pvh-vmm reports that besides the crash.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
        drop(file);
        let start = Instant::now();
        while !has_crashed(child.id()) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "it does not crash"
            );
            sleep(Duration::from_millis(10));
        }
        let pid = Pid::from_raw(child.id().cast_signed());
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it hears no signal");
            }
            kill(pid, Signal::SIGTERM).unwrap();
            sleep(Duration::from_millis(100));
        }
    }

    /// Whether the machine is gone: its timer thread has ended.
    fn has_crashed(pid: u32) -> bool {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        !tasks.flatten().any(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.trim() == "time")
        })
    }
}
