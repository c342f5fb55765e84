//! How a thread enters the sandbox, and how the first vCPU waits for all others.
//!
//! A thread that is started by one in the sandbox inherits its filter, and narrows it. A thread that
//! is started before, by one that is not in the sandbox, is announced, and no guest runs until it
//! has entered.

use std::{
    cell::Cell,
    io,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use pvh_sandbox::SandboxError;

use super::restrict;
use crate::threads::Role;

/// A thread on its way into the sandbox: made by the thread that starts it, dropped when it has
/// entered, or when the host refuses the thread.
#[derive(Debug)]
pub(crate) struct Entry {
    role: Role,
    confinement: Confinement,
    folder: Option<PathBuf>,
    is_awaited: bool,
}

impl Entry {
    /// Announces a thread, on the thread that starts it. It may use the files in `folder`.
    pub(crate) fn announce(role: Role, folder: Option<PathBuf>) -> Self {
        let is_awaited = ROLE.get().and_then(Role::in_sandbox).is_none();
        if is_awaited {
            let mut entries = lock();
            entries.pending = entries.pending.saturating_add(1);
        }
        Self {
            role,
            confinement: Confinement::of_this_thread(),
            folder,
            is_awaited,
        }
    }

    /// Enters the sandbox, on the new thread. Returns `false` if it must do nothing more: it has
    /// inherited a filter, and the host refuses its own. One that has not is awaited: no guest runs
    /// if it cannot enter.
    pub(crate) fn enter(&self) -> bool {
        ROLE.set(Some(self.role));
        let is_confined = self.confinement.inherit();
        let entered = restrict(self.role, is_confined, self.folder.as_deref());
        let has_entered = entered.is_ok();
        if let Err(error) = entered {
            lock().failed.get_or_insert(error);
        }
        has_entered || self.is_awaited
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_awaited {
            return;
        }
        let mut entries = lock();
        entries.pending = entries.pending.saturating_sub(1);
        let is_last = entries.pending == 0;
        drop(entries);
        if is_last {
            ALL_ENTERED.notify_all();
        }
    }
}

/// Whether a thread has given up its files and privileges; then the threads that it starts have
/// none.
#[derive(Clone, Copy, Debug)]
struct Confinement(bool);

impl Confinement {
    /// That of the calling thread, which is about to start another one.
    fn of_this_thread() -> Self {
        Self(IS_CONFINED.get())
    }

    /// Notes it on the new thread, and says whether it is confined.
    fn inherit(self) -> bool {
        IS_CONFINED.set(self.0);
        self.0
    }
}

/// Makes the calling thread enter the sandbox: the main thread, when its files are open.
pub(crate) fn enter(role: Role) {
    // Announced, so that an error keeps the guest from running.
    Entry::announce(role, None).enter();
}

/// Waits until every thread that was announced has entered the sandbox, and returns whether all
/// have. Each does so first, so this takes no longer than a thread takes to start.
pub(crate) fn wait_for_entries() -> bool {
    let mut entries = lock();
    while entries.pending > 0 {
        entries = ALL_ENTERED
            .wait(entries)
            .unwrap_or_else(PoisonError::into_inner);
    }
    entries.failed.is_none()
}

/// Takes the reason why a thread could not enter.
pub(crate) fn take_error() -> SandboxError {
    let error = lock().failed.take();
    error.unwrap_or_else(|| SandboxError::Seccomp(io::ErrorKind::Other.into()))
}

/// Says that the calling thread has given up its files and privileges, and what it starts has none.
pub(super) fn set_confined() {
    IS_CONFINED.set(true);
}

/// The role of the calling thread, for a signal handler.
pub(super) fn role() -> Option<Role> {
    ROLE.get()
}

/// Threads on their way into the sandbox.
#[derive(Debug)]
struct Entries {
    pending: usize,
    failed: Option<SandboxError>,
}

static ENTRIES: Mutex<Entries> = Mutex::new(Entries {
    pending: 0,
    failed: None,
});
static ALL_ENTERED: Condvar = Condvar::new();

// Without destructors: a signal handler can read them at any time.
thread_local! {
    static ROLE: Cell<Option<Role>> = const { Cell::new(None) };
    static IS_CONFINED: Cell<bool> = const { Cell::new(false) };
}

fn lock() -> MutexGuard<'static, Entries> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn the_wait_ends_when_the_last_thread_has_entered_or_was_refused() {
        let (first, refused) = (
            Entry::announce(Role::Time, None),
            Entry::announce(Role::Ahead, None),
        );
        let (sender, receiver) = mpsc::channel();
        let waiting = thread::spawn(move || sender.send(wait_for_entries()));
        drop(refused);
        // Other tests of this program start threads too, and they all enter.
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        let entering = thread::spawn(move || first.enter());
        assert!(entering.join().unwrap());
        assert!(receiver.recv_timeout(Duration::from_secs(10)).unwrap());
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_thread_of_the_sandbox_starts_others_without_a_wait() {
        let inside = thread::spawn(|| {
            let outer = Entry::announce(Role::Builder, None);
            assert!(outer.is_awaited && outer.enter());
            let inner = Entry::announce(Role::Vcpu(3), None);
            (inner.is_awaited, role())
        });
        assert_eq!(inside.join().unwrap(), (false, Some(Role::Builder)));
        assert_eq!(role(), None);
    }
}
