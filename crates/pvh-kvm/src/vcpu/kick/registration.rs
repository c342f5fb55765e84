//! The handshake between the thread that runs a vCPU and those that kick it: no kick is lost.

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

/// Which thread runs the vCPU now, if any.
///
/// A kick sets a flag that KVM_RUN looks at when it begins, and sends a signal that interrupts a
/// KVM_RUN that has begun. Each takes a lock for a few instructions; a kick holds it while it sends
/// one signal.
#[derive(Debug)]
pub(crate) struct Registration<T> {
    run: Mutex<Run<T>>,
}

/// The current run, if any.
#[derive(Debug)]
struct Run<T> {
    /// The thread that is inside KVM_RUN, or about to enter it.
    thread: Option<T>,
    /// Whether it was sent the signal. One is enough, and more would fill its signal queue.
    is_signalled: bool,
}

impl<T: Copy> Registration<T> {
    /// Nobody runs the vCPU.
    pub(crate) fn new() -> Self {
        Self {
            run: Mutex::new(Run {
                thread: None,
                is_signalled: false,
            }),
        }
    }

    /// Registers this thread as about to call KVM_RUN, until [`leave`](Self::leave).
    ///
    /// No kick is lost: a kicker sets the flag and looks for a registered thread under one lock. If
    /// it finds none, this thread registers later, and its KVM_RUN sees the flag. If it finds this
    /// thread, the signal either interrupts KVM_RUN or comes before it, and then KVM_RUN sees the
    /// flag. `is_signalled` implies that the flag was set since the registration, so a later kick
    /// needs no second signal: only the end of this run clears the flag.
    pub(crate) fn enter(&self, thread: T) {
        *self.lock() = Run {
            thread: Some(thread),
            is_signalled: false,
        };
    }

    /// Ends the registration. No signal is sent to this thread afterwards.
    pub(crate) fn leave(&self) {
        *self.lock() = Run {
            thread: None,
            is_signalled: false,
        };
    }

    /// Sets the flag by `set_flag`, and has `signal` interrupt the registered thread, if there is
    /// one without a signal. The thread stays registered while `signal` runs.
    pub(crate) fn kick<E>(
        &self,
        set_flag: impl FnOnce(),
        signal: impl FnOnce(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut run = self.lock();
        set_flag();
        let Some(thread) = run.thread.filter(|_| !run.is_signalled) else {
            return Ok(());
        };
        let sent = signal(thread);
        run.is_signalled = sent.is_ok();
        sent
    }

    fn lock(&self) -> MutexGuard<'_, Run<T>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
