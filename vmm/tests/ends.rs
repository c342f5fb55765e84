//! Ends that no device reports: a halt for good, and a jump to the BIOS.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        path::PathBuf,
        process::{Child, Command, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use super::guest::image;
    use assert_cmd::cargo::CommandCargoExt;
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    /// Starts a guest on the plain platform.
    fn start(kernel: &PathBuf, options: &[&str]) -> Child {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        command.arg("run").arg(kernel).args(options);
        command.args(["--memory", "4M", "--platform", "none"]);
        let command = command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn finish(child: Child) -> (Option<i32>, String) {
        let done = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), errors)
    }

    fn terminate(child: &Child) {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    const HALTED: &str =
        "pvh-vmm: every vCPU has halted with interrupts off: the guest has stopped for good";

    /// cli; hlt
    const HALT: &[u8] = b"\xFA\xF4";

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_halts_for_good_ends_with_5_if_asked_to() {
        let (_dir, kernel) = image(HALT);
        for cpus in ["1", "3"] {
            let started = Instant::now();
            let ended = finish(start(
                &kernel,
                &["--exit-on-halt", "--quiet", "--cpus", cpus],
            ));
            assert_eq!(ended, (Some(5), format!("{HALTED}\n")));
            assert!(started.elapsed() >= Duration::from_secs(1));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn without_the_option_one_line_says_so_and_the_guest_stays() {
        let (_dir, kernel) = image(HALT);
        let mut child = start(&kernel, &[]);
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let way_out = "; end it by a signal, or use --exit-on-halt\n";
        assert_eq!(line, format!("{HALTED}{way_out}"));
        sleep(Duration::from_secs(2));
        assert_eq!(child.try_wait().unwrap(), None);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(143));
        line.clear();
        assert_eq!(errors.read_line(&mut line).unwrap(), 0, "{line}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_waits_for_an_interrupt_or_spins_has_not_halted() {
        // sti; hlt; jmp hlt, and jmp to itself
        for code in [&b"\xFB\xF4\xEB\xFD"[..], b"\xEB\xFE"] {
            let (_dir, kernel) = image(code);
            let child = start(&kernel, &["--exit-on-halt", "--cpus", "2"]);
            sleep(Duration::from_secs(3));
            terminate(&child);
            assert_eq!(finish(child), (Some(143), String::new()));
        }
    }

    /// Leaves protected mode, and jumps to F000:FFF0, as Linux does with `reboot=b`.
    #[rustfmt::skip]
    const BIOS: &[u8] = &[
        0x0F, 0x01, 0x15, 0x20, 0x00, 0x10, 0x00, // lgdt [0x100020]
        0xEA, 0x0E, 0, 0, 0, 0x08, 0x00,        // jmp 0x08:0x0E
        0x0F, 0x20, 0xC0,                       // (16-bit) mov eax, cr0
        0x24, 0xFE,                             // and al, 0xFE
        0x0F, 0x22, 0xC0,                       // mov cr0, eax
        0xEA, 0xF0, 0xFF, 0x00, 0xF0,           // jmp 0xF000:0xFFF0
        0, 0, 0, 0, 0,
        // 0x20: 16 bytes of descriptors at 0x100030
        0x0F, 0x00, 0x30, 0x00, 0x10, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0xFF, 0xFF, 0x00, 0x00, 0x10, 0x9A, 0x00, 0x00, // code, 16 bits, base 0x100000
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_reboots_through_the_bios_reboots() {
        let (_dir, kernel) = image(BIOS);
        let ended = finish(start(&kernel, &["--no-reboot"]));
        let line = "pvh-vmm: the guest asked to reboot; --no-reboot ends it\n";
        assert_eq!(ended, (Some(6), line.to_owned()));
    }
}
