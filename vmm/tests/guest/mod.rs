//! Guests of a few instructions, one of which obeys commands from its serial port, and a guest on a
//! terminal.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::termios::{Termios, tcgetattr},
};
use pvh_testkit::elf::{Class, Elf, Note, Segment};
use tempfile::TempDir;

/// Prints `B`, then answers each byte: `P` powers off, `R` reboots, `X` executes an invalid
/// instruction, `H` spins for ever; the guest echoes any other byte.
const CODE: &[u8] = &[
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xB0, b'B', // mov al, 'B'
    0xEE, // out dx, al
    0x66, 0xBA, 0xFD, 0x03, // next: mov dx, 0x3FD
    0xEC, // in al, dx
    0xA8, 0x01, // test al, 1
    0x74, 0xF7, // jz next
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xEC, // in al, dx
    0x3C, b'P', 0x74, 0x0F, // je off
    0x3C, b'R', 0x74, 0x12, // je reboot
    0x3C, b'X', 0x74, 0x12, // je crash
    0x3C, b'H', 0x74, 0x10, // je hang
    0xEE, // out dx, al
    0xEB, 0xDF, // jmp next
    0x66, 0xBA, 0x05, 0x06, // off: mov dx, 0x605
    0xB0, 0x34, // mov al, 0x34
    0xEE, // out dx, al
    0xB0, 0xFE, // reboot: mov al, 0xFE
    0xE6, 0x64, // out 0x64, al
    0x0F, 0x0B, // crash: ud2
    0xEB, 0xFE, // hang: jmp hang
];

/// The guest as a file, as of [`image`].
pub(crate) fn obedient() -> (TempDir, PathBuf) {
    image(CODE)
}

/// Returns `pvh-vmm run kernel` as the foreground job of a session on `terminal`, its standard
/// input. If the test runner ignores signals (nohup does), pvh-vmm does not inherit that.
pub(crate) fn run_on(terminal: &OwnedFd, kernel: &Path) -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal", "setsid", "--ctty"])
        .arg(assert_cmd::cargo::cargo_bin("pvh-vmm"))
        .arg("run")
        .arg(kernel)
        .stdin(terminal.try_clone().expect("a descriptor"));
    command
}

/// The guest that obeys, on a terminal of its own, as the foreground job of a session.
pub(crate) struct OnTerminal {
    pub(crate) child: Child,
    /// The other end of the terminal, which goes away when the last copy of this one is closed.
    pub(crate) keyboard: File,
    pub(crate) terminal: OwnedFd,
    /// How the terminal was before the run.
    pub(crate) before: Termios,
    pub(crate) dir: TempDir,
}

impl OnTerminal {
    /// Starts the guest and waits until it runs.
    pub(crate) fn start() -> Self {
        let (dir, kernel) = obedient();
        let pty = openpty(None, None).expect("a terminal");
        let cloexec = FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC);
        fcntl(&pty.master, cloexec).expect("a descriptor's flag");
        let before = tcgetattr(&pty.slave).expect("the terminal's state");
        let mut child = run_on(&pty.slave, &kernel)
            .args(["--memory", "4M", "--platform", "none", "--no-reboot"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut booted = [0];
        let output = child.stdout.as_mut().expect("a pipe");
        output.read_exact(&mut booted).expect("the guest's output");
        assert_eq!(&booted, b"B");
        Self {
            child,
            keyboard: File::from(pty.master),
            terminal: pty.slave,
            before,
            dir,
        }
    }
}

/// Writes an image of `code` at 1 MiB. The directory is removed when the first value is dropped.
pub(crate) fn image(code: &[u8]) -> (TempDir, PathBuf) {
    let elf = Elf::new(Class::Elf32)
        .segment(Segment::load(0x10_0000, code))
        .segment(Segment::notes(&[Note::entry(0x10_0000)]));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("guest.elf");
    std::fs::write(&path, elf.build()).expect("the image is written");
    (dir, path)
}
