//! Stopping a vCPU from another thread.
// UNSAFETY: `pthread_kill` takes a thread handle that must still be valid, which only its surroundings
// can prove.
#![expect(unsafe_code, reason = "a signal to the thread that runs the vCPU")]

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::Ordering::SeqCst},
};

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

use super::run_page::ImmediateExit;

/// Stops a vCPU from any thread.
///
/// It does not keep the vCPU alive: kicking one that is gone does nothing.
#[derive(Clone, Debug)]
pub struct Kicker {
    target: Weak<KickTarget>,
}

/// Why a kick did not reach its thread.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KickError {
    /// The host refused the signal.
    #[error("the host refuses to signal the thread that runs the vCPU")]
    Signal {
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

impl Kicker {
    /// Makes the running [`Vcpu::run`](crate::Vcpu::run), or else the next one, return
    /// [`VmExit::Interrupted`](crate::VmExit::Interrupted).
    ///
    /// Kicks that come before the vCPU has answered one count as one. An exit that happens at the same time is
    /// not lost: it is returned first, and the run after it is the one that is interrupted.
    ///
    /// # Errors
    ///
    /// [`KickError::Signal`] if the host refuses the signal; the next run is interrupted even so.
    pub fn kick(&self) -> Result<(), KickError> {
        match self.target.upgrade() {
            Some(target) => target.kick(),
            None => Ok(()),
        }
    }
}

/// Returns the number of the signal that stops a running vCPU, `SIGRTMIN`.
///
/// Creating the first [`Vm`](crate::Vm) gives it a handler that does nothing; a program that uses this
/// crate uses the signal for nothing else.
#[must_use]
pub fn kick_signal() -> c_int {
    SIGRTMIN()
}

/// What a vCPU and its kickers share.
#[derive(Debug)]
pub(crate) struct KickTarget {
    immediate_exit: ImmediateExit,
    run: Mutex<Run>,
}

/// The run that is going on, if any.
#[derive(Debug)]
struct Run {
    /// The thread that is inside KVM_RUN, or about to be.
    thread: Option<pthread_t>,
    /// Whether it has got its signal: one is enough, and more would pile up in its queue.
    is_signalled: bool,
}

impl KickTarget {
    pub(crate) fn new(vcpu: &VcpuFd) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            immediate_exit: ImmediateExit::map(vcpu)?,
            run: Mutex::new(Run::NONE),
        }))
    }

    pub(crate) fn kicker(self: &Arc<Self>) -> Kicker {
        Kicker {
            target: Arc::downgrade(self),
        }
    }

    /// Says that this thread is about to call KVM_RUN, until the guard goes.
    ///
    /// The order is what makes a kick safe from being lost: a kicker sets the flag, then looks for a
    /// thread. If it finds none, we register later and KVM_RUN sees the flag; if it finds us, the signal
    /// ends KVM_RUN, or comes before it, and then KVM_RUN sees the flag.
    pub(crate) fn enter(&self) -> Running<'_> {
        // SAFETY: `pthread_self` has no demands; it is unsafe only as a foreign function.
        let this = unsafe { libc::pthread_self() };
        *self.lock() = Run {
            thread: Some(this),
            is_signalled: false,
        };
        Running(self)
    }

    /// Takes the kick that has stopped the vCPU, so that the next run goes on.
    pub(crate) fn acknowledge(&self) {
        self.immediate_exit.flag().store(0, SeqCst);
    }

    fn kick(&self) -> Result<(), KickError> {
        self.immediate_exit.flag().store(1, SeqCst);
        let mut run = self.lock();
        let Some(thread) = run.thread.filter(|_| !run.is_signalled) else {
            return Ok(());
        };
        // SAFETY: `pthread_kill` demands a thread that has not been joined, or detached and ended. `thread` is
        // inside `Vcpu::run`: it has registered itself and must take the lock we hold to go on, so it
        // cannot end during this call. The signal has a handler, so it ends no process.
        let errno = unsafe { libc::pthread_kill(thread, kick_signal()) };
        run.is_signalled = errno == 0;
        match errno {
            0 => Ok(()),
            errno => Err(KickError::Signal {
                source: io::Error::from_raw_os_error(errno),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    const NONE: Self = Self {
        thread: None,
        is_signalled: false,
    };
}

/// A registration by [`KickTarget::enter`].
pub(crate) struct Running<'a>(&'a KickTarget);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Run::NONE;
    }
}

/// Gives the kick signal its handler, once in the life of the process.
pub(crate) fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        register_signal_handler(kick_signal(), do_nothing).map_err(|error| error.errno())
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Lets the kick signal reach this thread, whatever mask it was started with.
pub(crate) fn unblock() -> io::Result<()> {
    unblock_signal(kick_signal()).map_err(|_| io::Error::last_os_error())
}

/// That a handler has run is enough: the system call it interrupted returns.
extern "C" fn do_nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}
