//! Runs a program that boots a guest, and measures it from the outside.
// UNSAFETY: `wait4` is the only way to get a child's peak memory, `openpty` gives it a terminal,
// `kill` asks it to end. There is no safe wrapper for these here.
#![expect(
    unsafe_code,
    reason = "wait4 and kill for a child of ours, and openpty"
)]

use std::{
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::{FromRawFd, OwnedFd},
    process::{Child, ChildStdout, Command, Stdio},
    ptr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// One run.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a record of measurements")]
pub struct Sample {
    /// The time from before the start of the program to the guest's first byte.
    pub first_byte_ms: f64,
    /// The time from the same moment to the end of the program; `None` if it had to be killed.
    pub exit_ms: Option<f64>,
    /// The peak of resident memory; never less than that of this process when it started the
    /// program.
    pub peak_rss_kib: u64,
}

impl Sample {
    /// Returns the peak of memory in MiB.
    #[must_use]
    pub fn peak_rss_mib(&self) -> f64 {
        f64::from(u32::try_from(self.peak_rss_kib).unwrap_or(u32::MAX)) / 1024.0
    }
}

/// Makes a new terminal the standard input of `command`, because some programs need one. Returns
/// the other end; the terminal disappears with it.
///
/// # Errors
///
/// If the host has no terminals left.
pub fn with_terminal(command: &mut Command) -> io::Result<OwnedFd> {
    let (mut ours, mut theirs) = (-1, -1);
    let (name, settings, size) = (ptr::null_mut(), ptr::null(), ptr::null());
    // SAFETY: both descriptors are written to valid places; the other pointers may be null.
    let made = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, name, settings, size) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `openpty` has just opened it, and nobody else knows it.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    // SAFETY: as above.
    let ours = unsafe { OwnedFd::from_raw_fd(ours) };
    command.stdin(theirs);
    Ok(ours)
}

/// Asks a child to end, as a service manager would.
///
/// # Errors
///
/// If there is no such child.
pub fn ask_to_end(child: &Child) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: it reads no memory of ours; the child has not been waited for, so its number is still
    // its own.
    match unsafe { libc::kill(pid, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Starts `command` and waits for the byte `B` on its standard output, then for its end.
///
/// # Errors
///
/// If it cannot be started, or if it ends or takes too long without the byte.
pub fn run(command: &mut Command) -> io::Result<Sample> {
    run_within(command, EXIT_PATIENCE)
}

/// The same, but kills the program if it has not ended by a time after the byte.
///
/// # Errors
///
/// As [`run`].
pub fn run_within(command: &mut Command, patience: Duration) -> io::Result<Sample> {
    command.stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (seen, reader) = read_in_thread(stdout, start);
    let first = seen.recv_timeout(PATIENCE).ok().flatten();
    let deadline = Instant::now().checked_add(first.map_or(Duration::ZERO, |_| patience));
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let end = wait(pid, deadline, start)?;
    let (ended, peak_rss_kib) = match end {
        Some((exit, rss)) => (Some(exit), rss),
        None => {
            child.kill()?;
            let (_, rss) = wait(pid, None, start)?.ok_or(io::ErrorKind::TimedOut)?;
            (None, rss)
        }
    };
    // The thread ends with the pipe.
    let _ = reader.join();
    let first = first.ok_or_else(|| io::Error::other("the guest wrote nothing"))?;
    Ok(Sample {
        first_byte_ms: millis(first),
        exit_ms: ended.map(millis),
        peak_rss_kib,
    })
}

/// Reads to the end, so that the program never waits for us. Sends the time of the mark, or that
/// there was none.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark has no signals to block"
)]
pub(crate) fn read_in_thread(
    mut stdout: ChildStdout,
    start: Instant,
) -> (mpsc::Receiver<Option<Duration>>, thread::JoinHandle<()>) {
    let (tell, seen) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut told = false;
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            let now = start.elapsed();
            let has_mark = buffer
                .get(..count)
                .is_some_and(|bytes| bytes.contains(&MARK));
            if has_mark && !told {
                told = tell.send(Some(now)).is_ok();
            }
        }
        if !told {
            // An error means that nobody listens any more.
            let _ = tell.send(None);
        }
    });
    (seen, reader)
}

/// Waits for the end of a child, without a deadline for ever. Returns the time of the end and its
/// peak memory.
fn wait(
    pid: libc::pid_t,
    deadline: Option<Instant>,
    start: Instant,
) -> io::Result<Option<(Duration, u64)>> {
    loop {
        let flags = deadline.map_or(0, |_| libc::WNOHANG);
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        let mut status = 0;
        // SAFETY: both pointers are valid for writes of their types during the call.
        let ended = unsafe { libc::wait4(pid, &raw mut status, flags, usage.as_mut_ptr()) };
        if ended < 0 {
            return Err(io::Error::last_os_error());
        }
        if ended == pid {
            let now = start.elapsed();
            // SAFETY: `rusage` is plain integers, for which zeros are a value; `wait4` has filled
            // it besides.
            let usage = unsafe { usage.assume_init() };
            return Ok(Some((now, u64::try_from(usage.ru_maxrss).unwrap_or(0))));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
        thread::sleep(Duration::from_micros(50));
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The byte that the guests of [`crate::guest`] write.
const MARK: u8 = b'B';

/// The longest time to the guest's first byte.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The longest time from that byte to the end of the program.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_says_the_byte_and_ends_is_measured() {
        let sample =
            run(Command::new("sh").args(["-c", "sleep 0.05; echo aB; sleep 0.05"])).unwrap();
        assert!(sample.first_byte_ms >= 50.0, "{sample:?}");
        assert!(
            sample.exit_ms.unwrap() >= sample.first_byte_ms + 50.0,
            "{sample:?}"
        );
        assert!(sample.peak_rss_kib > 100, "{sample:?}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let sample = run(Command::new("sh").args(["-c", "echo B; exec sleep 100"])).unwrap();
        assert!(sample.exit_ms.is_none(), "{sample:?}");
    }

    #[test]
    fn without_patience_a_program_is_killed_behind_its_byte() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo B; exec sleep 100"]);
        let sample = run_within(&mut command, Duration::ZERO).unwrap();
        assert!(sample.exit_ms.is_none() && start.elapsed() < EXIT_PATIENCE);
    }

    #[test]
    fn a_child_that_is_asked_to_end_ends() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        ask_to_end(&child).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_program_can_have_a_terminal() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 0 && echo B"]);
        let _terminal = with_terminal(&mut command).unwrap();
        run(&mut command).unwrap();
    }

    #[test]
    fn silence_is_an_error() {
        assert!(run(&mut Command::new("true")).is_err());
        assert!(run(&mut Command::new("/nonexistent")).is_err());
    }
}
