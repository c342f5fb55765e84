//! The bell that wakes the thread of a device.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use pvh_xen::Doorbell;

/// Wakes the thread of a device, and says what for. Ringing it is one write to an eventfd, which
/// never waits; however often the guest rings it before the thread looks, the thread wakes once.
#[derive(Debug)]
pub(crate) struct Bell {
    event: EventFd,
    has_store_event: AtomicBool,
    is_stopped: AtomicBool,
}

/// The same bell for events of the store.
#[derive(Debug)]
pub(crate) struct StoreBell(pub(crate) Arc<Bell>);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            has_store_event: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// Waits until the bell has been rung since the last wait.
    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        // After an error, such as a signal, the thread looks once more and waits again.
        let _ = poll(&mut fds, PollTimeout::NONE);
        self.clear();
    }

    /// Forgets that the bell has been rung.
    pub(crate) fn clear(&self) {
        // It fails if the bell has not been rung.
        let _ = self.event.read();
    }

    /// Makes the thread end after the request that it works on.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
        self.ring();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn has_store_event(&self) -> bool {
        self.has_store_event.load(SeqCst)
    }

    /// Tells whether the store has changed since the last call.
    pub(crate) fn take_store_event(&self) -> bool {
        self.has_store_event.swap(false, SeqCst)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        // It fails only if the counter is full: then the thread has been woken already.
        let _ = self.event.write(1);
    }
}

impl Doorbell for StoreBell {
    fn ring(&self) {
        self.0.has_store_event.store(true, SeqCst);
        self.0.ring();
    }
}
