//! Signals to the VMM, read in the event loop.

use std::{fs, io, mem};

use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, raise},
        signalfd::{SfdFlags, SignalFd},
    },
};
use vmm_sys_util::signal::register_signal_handler;

/// The signals that end or stop the VMM, blocked for this thread and those it starts.
///
/// A signal that the VMM was started to ignore (`nohup`) stays ignored. Dropping this restores the
/// mask; later signals act as usual.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks the signals and opens the descriptor to read them from.
    ///
    /// # Errors
    ///
    /// When the host refuses either.
    pub(crate) fn block() -> io::Result<Self> {
        let ignored = ignored_signals();
        let heard = HANDLED.into_iter();
        let set: SigSet = heard.filter(|&signal| !is_in(ignored, signal)).collect();
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { fd, before })
    }

    /// Takes the next pending signal.
    pub(crate) fn next(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|number| Signal::try_from(number).ok())
    }

    /// Takes the number of a pending signal that ends the process; stops the process on SIGTSTP.
    pub(crate) fn next_ending(&self) -> Option<i32> {
        let arrived = std::iter::from_fn(|| self.next());
        arrived
            .inspect(|&signal| {
                if signal == Signal::SIGTSTP {
                    stop_self();
                }
            })
            .find(|&signal| !matches!(signal, Signal::SIGTSTP | Signal::SIGCONT))
            .map(|signal| signal as i32)
    }

    /// Leaves the signals blocked: the process is about to end, and another signal must not cut off
    /// its last messages.
    pub(crate) fn leave_blocked(self) {
        mem::forget(self);
    }

    /// Becomes readable when a signal arrives.
    pub(crate) fn fd(&self) -> &SignalFd {
        &self.fd
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // This mask was in force before, so the kernel accepts it.
        let _ = self.before.thread_set_mask();
    }
}

/// Lets the signals act on this thread as usual, even after [`Signals::leave_blocked`].
pub(crate) fn unblock() {
    // The kernel accepts any mask.
    let _ = SigSet::from_iter(HANDLED).thread_unblock();
}

/// Stops the process until SIGCONT.
pub(crate) fn stop_self() {
    // SIGSTOP cannot be blocked.
    let _ = raise(Signal::SIGSTOP);
}

/// Makes a write beyond the user's file size limit an error instead of the end of the process.
pub(crate) fn survive_file_size_limits() {
    // The kernel accepts a handler for any valid signal but SIGKILL and SIGSTOP.
    let _ = register_signal_handler(Signal::SIGXFSZ as i32, do_nothing);
}

/// A handler is enough to make the write fail.
extern "C" fn do_nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// The signals that the process was started to ignore, bit n-1 for signal n; 0 if unknown.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or(0)
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn is_in(mask: u64, signal: Signal) -> bool {
    let bit = (signal as u32).saturating_sub(1);
    mask.checked_shr(bit).is_some_and(|rest| rest & 1 != 0)
}

/// The signals that the VMM reads: stop, continue, and those that would end it without a message.
const HANDLED: [Signal; 15] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGXCPU,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_mask_of_ignored_signals_is_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let mask = parse_ignored(status).unwrap();
        assert!(is_in(mask, Signal::SIGHUP), "bit 0");
        assert!(is_in(mask, Signal::SIGPIPE), "bit 12");
        assert!(!is_in(mask, Signal::SIGTERM));
        assert_eq!(parse_ignored("nothing"), None);
    }

    #[test]
    fn a_blocked_signal_is_read_instead_of_acting() {
        let signals = Signals::block().unwrap();
        assert_eq!(signals.next(), None);
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.next(), Some(Signal::SIGTERM));
        assert_eq!(signals.next(), None);
        drop(signals);
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
    }
}
