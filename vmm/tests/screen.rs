//! What a user sees on a terminal that shows both standard output and standard error.

#[cfg(test)]
mod guest;

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::OwnedFd,
        path::Path,
        process::{Child, Stdio},
        time::{Duration, Instant},
    };

    use nix::pty::openpty;

    use super::guest::{image, obedient, run_on};

    /// A guest on a terminal, and what is on its screen.
    struct Screen {
        child: Child,
        terminal: File,
        text: String,
    }

    impl Screen {
        fn start(kernel: &Path, options: &[&str]) -> Self {
            let pty = openpty(None, None).unwrap();
            let end = || pty.slave.try_clone().unwrap();
            let stdio = |fd: OwnedFd| Stdio::from(fd);
            let child = run_on(&pty.slave, kernel)
                .args(["--memory", "4M"])
                .args(options)
                .stdout(stdio(end()))
                .stderr(stdio(end()))
                .spawn()
                .unwrap();
            Self {
                child,
                terminal: File::from(pty.master),
                text: String::new(),
            }
        }

        /// Reads until `word` is on the screen.
        fn wait_for(&mut self, word: &str) {
            while !self.text.contains(word) {
                assert!(self.read(), "{word:?} is missing in {:?}", self.text);
            }
        }

        fn type_keys(&mut self, keys: &[u8]) {
            self.terminal.write_all(keys).unwrap();
        }

        /// Waits for the end; returns the exit code and the screen.
        fn end(mut self) -> (Option<i32>, String) {
            while self.read() {}
            (self.child.wait().unwrap().code(), self.text)
        }

        /// Reads once; `false` at the end of the output.
        fn read(&mut self) -> bool {
            let mut bytes = [0; 4096];
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            self.text
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
            count > 0
        }
    }

    /// Prints a byte at `port`: mov dx, port; mov al, byte; out dx, al.
    fn print(port: u16, bytes: &[u8]) -> Vec<u8> {
        let [low, high] = port.to_le_bytes();
        let one = |&byte: &u8| [0x66, 0xBA, low, high, 0xB0, byte, 0xEE];
        bytes.iter().flat_map(one).collect()
    }

    /// Powers off by ACPI's port.
    fn power_off() -> Vec<u8> {
        print(0x605, &[0x34])
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn ctrl_a_x_says_so_on_a_line_of_its_own() {
        let (_dir, kernel) = obedient();
        for (options, word) in [
            (
                &["--platform", "none"][..],
                "\r\npvh-vmm: Ctrl-A X ended the guest\r\n",
            ),
            (&["--platform", "none", "--quiet"], ""),
        ] {
            let mut screen = Screen::start(&kernel, options);
            screen.wait_for("B");
            screen.type_keys(b"\x01x");
            let (code, text) = screen.end();
            assert_eq!((code, text), (Some(130), format!("B{word}")));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_line_of_the_log_and_one_of_the_console_do_not_mix() {
        let round = [
            print(0x3F8, b"con"),
            print(0xE9, b"log\n"),
            print(0x3F8, b"sole\n"),
        ]
        .concat();
        let (_dir, kernel) =
            image(&[round.repeat(40), print(0x3F8, b"open"), power_off()].concat());
        let (code, text) = Screen::start(&kernel, &["--platform", "xen"]).end();
        assert_eq!(code, Some(0), "{text}");
        let (log, console): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.contains("pvh-vmm"));
        assert_eq!(log, vec!["pvh-vmm: guest: log"; 40], "{text}");
        assert_eq!(
            console.concat(),
            format!("{}open", "console".repeat(40)),
            "{text}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn quiet_and_log_off_silence_the_log_and_quiet_the_platform_too() {
        let (_dir, kernel) = image(&[print(0xE9, b"log\n"), power_off()].concat());
        let lines = |options| Screen::start(&kernel, options).end().1.lines().count();
        assert_eq!(lines(&[]), 2, "the platform and the log");
        assert_eq!(lines(&["--log", "off"]), 1);
        assert_eq!(lines(&["--quiet"]), 0);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_key_ends_a_guest_that_has_halted_for_good() {
        // cli; hlt
        let (_dir, kernel) = image(b"\xFA\xF4");
        let mut screen = Screen::start(&kernel, &["--platform", "none", "--quiet"]);
        let line = "pvh-vmm: every vCPU has halted with interrupts off: the guest has stopped for \
                    good; any key ends pvh-vmm\r\n";
        screen.wait_for(line);
        screen.type_keys(b"q");
        assert_eq!(screen.end(), (Some(5), line.to_owned()));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_prints_nothing_for_10_seconds_gets_one_line() {
        // jmp to itself
        let (_dir, kernel) = image(b"\xEB\xFE");
        let started = Instant::now();
        let mut screen = Screen::start(&kernel, &["--platform", "none"]);
        let mut quiet = Screen::start(&kernel, &["--platform", "none", "--quiet"]);
        screen.wait_for("console=ttyS0 or --platform xen\r\n");
        assert!(started.elapsed() >= Duration::from_secs(10));
        assert_eq!(
            screen.text,
            "pvh-vmm: no output yet; Ctrl-A X ends, try --cmdline console=ttyS0 or --platform xen\r\n"
        );
        for screen in [&mut screen, &mut quiet] {
            screen.type_keys(b"\x01x");
        }
        assert_eq!(screen.end().0, Some(130));
        assert_eq!(quiet.end(), (Some(130), String::new()));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_only_reboots_gets_the_line_too() {
        // mov al, 0xFE; out 0x64, al; hlt
        let (_dir, kernel) = image(b"\xB0\xFE\xE6\x64\xF4");
        let started = Instant::now();
        let options = ["--platform", "none", "--cmdline", "quiet"];
        let mut screen = Screen::start(&kernel, &options);
        screen.wait_for("add console=ttyS0 to --cmdline or try --platform xen\r\n");
        assert!(started.elapsed() >= Duration::from_secs(10));
        screen.wait_for("xen\r\npvh-vmm: the guest reboots\r\n");
        screen.type_keys(b"\x01x");
        let (code, text) = screen.end();
        assert_eq!(code, Some(130));
        assert_eq!(text.matches("no output yet").count(), 1);
        assert!(text.starts_with("pvh-vmm: the guest reboots\r\npvh-vmm: the guest reboots\r\n"));
    }
}
