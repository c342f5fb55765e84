//! System calls that fail: strace makes the n-th call of a kind fail in each thread, for every n.
//!
//! Whatever fails, the run ends in time with its code, and says why in a line; no thread panics, and
//! the terminal is as it was. A run whose call fails and that still boots its guest is sound too.
//!
//! The sandbox is off: strace replaces a call by one that does not exist, which the filter would
//! refuse. Calls that the kernel cannot refuse (a futex that wakes, a mask of signals) are left out.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::fd::OwnedFd,
        path::{Path, PathBuf},
        process::{Command, Output, Stdio},
    };

    use nix::{pty::openpty, sys::termios::tcgetattr};

    /// What fails, how, and up to the how manieth call of a thread.
    const FAULTS: [(&str, &str, u32); 18] = [
        // KVM's and the terminal's: the guest runs from the 55th on.
        ("ioctl", "EIO", 70),
        ("ioctl", "EINTR", 4),
        ("openat", "EMFILE", 12),
        ("openat", "EINTR", 3),
        ("read", "EIO", 10),
        ("read", "EINTR", 3),
        ("pread64", "EIO", 4),
        ("pread64", "EINTR", 2),
        ("statx", "ENOMEM", 2),
        ("epoll_create1", "EMFILE", 1),
        ("epoll_ctl", "ENOSPC", 10),
        ("epoll_wait", "EINTR", 2),
        ("eventfd2", "EMFILE", 4),
        ("signalfd4", "EMFILE", 1),
        ("clone3", "EAGAIN", 8),
        ("fcntl", "EMFILE", 12),
        ("madvise", "ENOMEM", 8),
        ("poll", "EINTR", 2),
    ];

    /// The codes of the README: a guest that powered off, a refused file, a host that lacks
    /// something, a guest that ended.
    const CODES: [i32; 4] = [0, 3, 4, 5];

    struct Fault<'a> {
        call: &'a str,
        error: &'a str,
        number: u32,
    }

    fn run(fault: &Fault<'_>, log: &Path, terminal: &OwnedFd) -> Output {
        let Fault {
            call,
            error,
            number,
        } = fault;
        Command::new("timeout")
            .args([
                "--foreground",
                "--signal=KILL",
                "30",
                "setsid",
                "--wait",
                "--ctty",
            ])
            .args(["strace", "-f", "-qq", "-e", &format!("trace={call}"), "-e"])
            .arg(format!("inject={call}:error={error}:when={number}"))
            .arg("-o")
            .arg(log)
            .arg(program())
            .args([
                "run",
                "--quiet",
                "--cache",
                "none",
                "--sandbox",
                "off",
                "--memory",
                "32M",
            ])
            .stdin(terminal.try_clone().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    }

    /// The program, or another build of it: one without shared libraries makes no calls to load them.
    fn program() -> PathBuf {
        std::env::var_os("INJECTED_VMM")
            .map_or_else(|| assert_cmd::cargo::cargo_bin("pvh-vmm"), PathBuf::from)
    }

    /// Whether the dynamic linker failed, before the program began.
    fn is_linkers(output: &Output) -> bool {
        output.status.code() == Some(127)
    }

    /// Checks one run; returns whether the call was made and failed.
    fn check(fault: &Fault<'_>, log: &Path) -> bool {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let output = run(fault, log, &pty.slave);
        let trace = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        let Some(failed) = trace.lines().find(|line| line.contains("(INJECTED)")) else {
            return false;
        };
        let what = format!(
            "{} {} {}: {failed}: {output:?}",
            fault.call, fault.number, fault.error
        );
        assert_eq!(
            tcgetattr(&pty.slave).unwrap(),
            before,
            "the terminal: {what}"
        );
        if is_linkers(&output) {
            return true;
        }
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("panicked"), "{what}");
        let code = output.status.code();
        assert!(code.is_some_and(|code| CODES.contains(&code)), "{what}");
        if code == Some(0) {
            let page = String::from_utf8_lossy(&output.stdout);
            assert!(page.contains("PVH demo: ok"), "{what}");
        } else {
            assert!(told.starts_with("pvh-vmm: "), "{what}");
            // A guest that ended has its registers in the lines after.
            assert!(code == Some(5) || told.lines().count() == 1, "{what}");
        }
        true
    }

    #[test]
    #[ignore = "needs strace"]
    fn a_call_that_fails_ends_in_one_line_and_the_terminal_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("strace.txt");
        let mut failed = 0;
        for (call, error, most) in FAULTS {
            let mut number = 0;
            while number < most {
                number += 1;
                let fault = Fault {
                    call,
                    error,
                    number,
                };
                if !check(&fault, &log) {
                    break;
                }
                failed += 1;
            }
            println!("injected: {call} {error}: {number} calls");
        }
        assert!(failed > 100, "only {failed} calls failed");
    }
}
