//! Runs the conformance guest in a second process, which ends with this one.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd},
    process::{self, Child, ChildStdout, Command, Stdio},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
};
use pvh_config::{ConformArguments, exit::CRASHED};
use pvh_conformance::conformance_image;

use crate::signals::Signals;

/// The result of the guest's run.
#[derive(Debug)]
pub(super) enum Boot {
    /// The guest's output, and the exit code of its process.
    Ran(String, u8),
    /// A signal with this number has ended the guest and must end this process too.
    Signal(i32),
}

/// Boots the guest in another process and waits for its end.
///
/// # Errors
///
/// The host refuses a process, memory or a descriptor.
pub(super) fn boot(arguments: &ConformArguments) -> io::Result<Boot> {
    let mut image = File::from(memfd_create(c"conformance", MFdFlags::MFD_CLOEXEC)?);
    image.write_all(conformance_image())?;
    let path = format!("/proc/{}/fd/{}", process::id(), image.as_raw_fd());
    // Before the second process starts: a signal must not leave it behind.
    let signals = Signals::block()?;
    let mut child = Command::new(env::current_exe()?)
        .args(["run", &path])
        .args(MACHINE)
        .arg("--cmdline")
        .arg(&arguments.cmdline)
        .arg("--kvm-device")
        .arg(&arguments.kvm_device)
        .args(["--sandbox", arguments.sandbox.word()])
        .args(["--xen-version", &arguments.xen_version.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let read = child.stdout.take().map(|stdout| read(stdout, &signals));
    match read {
        Some(Ok(Report::Whole(output))) => {
            let code = child.wait()?.code();
            let code = code.and_then(|code| u8::try_from(code).ok());
            let text = String::from_utf8_lossy(&output).into_owned();
            Ok(Boot::Ran(text, code.unwrap_or(CRASHED)))
        }
        Some(Ok(Report::Endless(output))) => {
            end(&mut child);
            Ok(Boot::Ran(
                String::from_utf8_lossy(&output).into_owned(),
                CRASHED,
            ))
        }
        Some(Ok(Report::Signal(signal))) => {
            end(&mut child);
            Ok(Boot::Signal(signal))
        }
        Some(Err(error)) => {
            end(&mut child);
            Err(error)
        }
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// How reading ended.
enum Report {
    /// The whole report.
    Whole(Vec<u8>),
    /// More than [`REPORT_LIMIT_BYTES`]: no report is that long.
    Endless(Vec<u8>),
    /// A signal with this number asked to end.
    Signal(i32),
}

/// Reads to the end, or until a signal that ends the process.
fn read(mut stdout: ChildStdout, signals: &Signals) -> io::Result<Report> {
    let mut output = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    while output.len() < REPORT_LIMIT_BYTES {
        let mut fds = [
            PollFd::new(stdout.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd().as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [from_guest, _] = fds;
        let has_more = from_guest.any().unwrap_or(false);
        if let Some(signal) = signals.next_ending() {
            return Ok(Report::Signal(signal));
        }
        if has_more {
            let count = stdout.read(&mut chunk)?;
            if count == 0 {
                return Ok(Report::Whole(output));
            }
            output.extend(chunk.iter().take(count));
        }
    }
    Ok(Report::Endless(output))
}

/// Kills the second process, which has nothing to save, and waits until it is gone.
fn end(child: &mut Child) {
    // If it has ended already, the kill fails and the wait still collects it.
    let _ = child.kill();
    let _ = child.wait();
}

/// The options of the machine that the guests of pvh-conformance are built for.
pub(crate) const MACHINE: [&str; 10] = [
    "--platform",
    "xen",
    "--cpus",
    "4",
    "--memory",
    "64M",
    "--load",
    "copy",
    "--cache",
    "none",
];
const CHUNK_BYTES: usize = 64 << 10;
/// A real report has about 150 KiB.
const REPORT_LIMIT_BYTES: usize = 8 << 20;
