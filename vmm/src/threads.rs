//! Starts every thread of pvh-vmm: the only place that does.
//!
//! A thread inherits the signal mask of the thread that starts it, and a signal that finds an open
//! thread acts there at once, past the event loop: the terminal would stay in raw mode. So each
//! thread starts with all signals blocked but those that report a fault of its own
//! instructions. What a thread needs beyond that it opens itself: a vCPU the kick signal, a writer
//! the signal that interrupts a blocked write.
//!
//! The first thing that a thread does is to enter the sandbox in its role.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle, Scope, ScopedJoinHandle},
};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pvh_sandbox::SandboxError;

use crate::{
    machine::{Board, End},
    sandbox::{self, Entry},
};

/// What a thread is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Runs this vCPU.
    Vcpu(u32),
    /// Fires the Xen platform's timers.
    Time,
    /// Requests copying ahead of the guest.
    Ahead,
    /// Runs the event loop.
    Events,
    /// Prepares the console and KVM's CPUID leaves while the machine is built, and ends before a
    /// guest runs.
    Beside,
    /// Starts the threads of machines, and builds the machines after a reboot.
    Builder,
    /// Writes console output or log lines.
    Writer,
    /// Serves the requests of the guest's disk with this number, from 0.
    Disk(u8),
    /// Moves the packets of the guest's network device with this number, from 0.
    Network(u8),
    /// Serves gdb.
    Gdb,
    /// Finishes an entry of the cache of unpacked kernels.
    Cache,
}

impl Role {
    /// The role in the sandbox that a thread enters when it starts; none if it ends before a guest
    /// runs.
    pub(crate) const fn in_sandbox(self) -> Option<pvh_sandbox::Role> {
        use pvh_sandbox::Role;
        Some(match self {
            Self::Vcpu(_) => Role::Vcpu,
            Self::Time => Role::Time,
            Self::Ahead => Role::Ahead,
            Self::Events => Role::Events,
            Self::Builder => Role::Builder,
            Self::Writer => Role::Writer,
            Self::Disk(_) => Role::Disk,
            Self::Network(_) => Role::Net,
            Self::Cache => Role::Cache,
            // gdb turns the sandbox off.
            Self::Beside | Self::Gdb => return None,
        })
    }
}

/// The name of the thread, at most 15 bytes, which is all that Linux keeps.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vcpu(index) => return write!(f, "vcpu{index}"),
            Self::Disk(index) => return write!(f, "disk{index}"),
            Self::Network(index) => return write!(f, "net{index}"),
            Self::Time => "time",
            Self::Ahead => "ahead",
            Self::Events => "events",
            Self::Beside => "beside",
            Self::Builder => "builder",
            Self::Writer => "console",
            Self::Gdb => "gdb",
            Self::Cache => "cache",
        })
    }
}

/// What a panic of a thread does. In each case its message is printed first.
#[derive(Debug)]
pub(crate) enum OnPanic {
    /// It ends this machine.
    End(Arc<Board>),
    /// The thread that joins it sees to that.
    Report,
}

/// Starts a thread.
///
/// # Errors
///
/// The host refuses a thread. The mask of the calling thread is as before.
pub(crate) fn start(
    role: Role,
    on_panic: OnPanic,
    life: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start_in(None, role, on_panic, life)
}

/// Starts a thread that may use the files in `folder`, and no others.
///
/// # Errors
///
/// Those of [`start`].
pub(crate) fn start_in(
    folder: Option<PathBuf>,
    role: Role,
    on_panic: OnPanic,
    life: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let _blocked = Blocked::new()?;
    let entry = Entry::announce(role, folder);
    #[expect(clippy::disallowed_methods, reason = "threads are started here alone")]
    thread::Builder::new()
        .name(role.to_string())
        .spawn(move || {
            let has_entered = entry.enter();
            drop(entry);
            match on_panic {
                OnPanic::End(board) if !has_entered => board.end(End::Sandbox),
                _ => guarded(&on_panic, life),
            }
        })
}

/// A thread that may borrow. It does nothing if it cannot enter the sandbox.
pub(crate) type ScopedThread<'scope, T> = ScopedJoinHandle<'scope, Result<T, SandboxError>>;

/// Starts a thread that may borrow; whoever joins it sees to a panic.
///
/// # Errors
///
/// The host refuses a thread. The mask of the calling thread is as before.
pub(crate) fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    role: Role,
    life: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedThread<'scope, T>> {
    let _blocked = Blocked::new()?;
    let entry = Entry::announce(role, None);
    #[expect(clippy::disallowed_methods, reason = "threads are started here alone")]
    thread::Builder::new()
        .name(role.to_string())
        .spawn_scoped(scope, move || {
            let has_entered = entry.enter();
            // What this thread starts is announced before its own entry counts.
            let _entry = (role == Role::Beside).then_some(entry);
            match has_entered {
                true => Ok(life()),
                false => Err(sandbox::take_error()),
            }
        })
}

/// Runs `life`, and ends the machine if it panics and `on_panic` says so.
pub(crate) fn guarded(on_panic: &OnPanic, life: impl FnOnce()) {
    let guard = match on_panic {
        OnPanic::End(board) => Some(EndMachine(board)),
        OnPanic::Report => None,
    };
    life();
    // No panic: the machine goes on.
    std::mem::forget(guard);
}

/// Ends the machine when it is dropped, which only a panic does.
struct EndMachine<'a>(&'a Board);

impl Drop for EndMachine<'_> {
    fn drop(&mut self) {
        self.0.end(End::Panic);
    }
}

/// The calling thread's mask while it starts another: all signals but those of faults are blocked.
struct Blocked(SigSet);

impl Blocked {
    fn new() -> io::Result<Self> {
        let mut mask = SigSet::all();
        FAULTS.into_iter().for_each(|signal| mask.remove(signal));
        Ok(Self(mask.thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // This mask was in force before, so the kernel accepts it.
        let _ = self.0.thread_set_mask();
    }
}

/// The signals that a thread's own instructions cause. Blocked, they would end the process, and
/// SIGBUS has a handler: pages of a truncated file are replaced there.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
];

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use super::*;
    use pvh_terminal::ConsoleQueue;

    fn board() -> Arc<Board> {
        Arc::new(Board::new(ConsoleQueue::default(), None).unwrap())
    }

    /// The mask of blocked signals of the calling thread, as the kernel shows it: bit n-1 for n.
    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_starts_with_every_signal_blocked_but_those_of_its_own_faults() {
        let before = blocked();
        let (sender, receiver) = mpsc::channel();
        let thread = start(Role::Cache, OnPanic::Report, move || {
            sender.send(blocked()).unwrap();
        });
        thread.unwrap().join().unwrap();
        let scoped = thread::scope(|scope| {
            let thread = start_scoped(scope, Role::Beside, blocked);
            thread.unwrap().join().unwrap().unwrap()
        });
        let mask = receiver.recv().unwrap();
        assert_eq!(mask, scoped);
        // SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGTSTP.
        for number in [1, 2, 3, 10, 12, 13, 14, 15, 20] {
            assert_eq!(mask >> (number - 1) & 1, 1, "signal {number} is open");
        }
        // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
        for number in [4, 5, 6, 7, 8, 11, 31] {
            assert_eq!(mask >> (number - 1) & 1, 0, "signal {number} is blocked");
        }
        assert_eq!(blocked(), before, "the starting thread keeps its mask");
    }

    #[test]
    fn a_panic_ends_the_machine_if_that_is_the_policy() {
        let ended = board();
        let on_panic = OnPanic::End(Arc::clone(&ended));
        let thread = start(Role::Time, on_panic, || panic!("on purpose")).unwrap();
        assert!(thread.join().is_err());
        assert!(matches!(ended.take_end(), Some(End::Panic)));
        let board = board();
        let quiet = start(Role::Vcpu(3), OnPanic::End(Arc::clone(&board)), || ());
        quiet.unwrap().join().unwrap();
        assert!(board.take_end().is_none());
    }

    #[test]
    fn each_role_has_a_name_that_linux_keeps_whole() {
        let roles = [
            Role::Vcpu(127),
            Role::Time,
            Role::Ahead,
            Role::Events,
            Role::Beside,
            Role::Builder,
            Role::Writer,
            Role::Disk(15),
            Role::Network(255),
            Role::Gdb,
            Role::Cache,
        ];
        let mut names = roles.map(|role| role.to_string()).to_vec();
        assert!(names.iter().all(|name| (1..16).contains(&name.len())));
        names.dedup();
        assert_eq!(names.len(), roles.len());
    }
}
