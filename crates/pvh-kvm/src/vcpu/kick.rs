//! Stops a running vCPU from another thread.
// UNSAFETY: `pthread_kill` takes a thread handle that must still be valid. Only the code around the
// call can prove that.
#![expect(unsafe_code, reason = "a signal to the thread that runs the vCPU")]

mod registration;

use std::{
    io,
    sync::{Arc, OnceLock, Weak, atomic::Ordering::SeqCst},
};

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

use super::run_page::ImmediateExit;
use registration::Registration;

/// Stops a vCPU from any thread.
///
/// It does not keep the vCPU alive: a kick of a dropped vCPU does nothing.
#[derive(Clone, Debug)]
pub struct Kicker {
    target: Weak<KickTarget>,
}

/// Why a kick cannot interrupt the thread of its vCPU.
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
    /// Makes the current [`Vcpu::run`](crate::Vcpu::run) or, if there is none, the next one return
    /// [`VmExit::Interrupted`](crate::VmExit::Interrupted).
    ///
    /// Several kicks before that return count as one. If the guest exits at the same time, `run`
    /// returns that exit first, and the run after it is interrupted.
    ///
    /// # Errors
    ///
    /// [`KickError::Signal`] if the host refuses the signal; the next run is interrupted
    /// nevertheless.
    pub fn kick(&self) -> Result<(), KickError> {
        match self.target.upgrade() {
            Some(target) => target.kick(),
            None => Ok(()),
        }
    }
}

/// Returns the number of the signal that stops a running vCPU, `SIGRTMIN`.
///
/// Creating the first [`Vm`](crate::Vm) installs a handler that does nothing. A program that uses
/// this crate must not use the signal for anything else.
#[must_use]
pub fn kick_signal() -> c_int {
    SIGRTMIN()
}

/// The state that a vCPU shares with its kickers.
#[derive(Debug)]
pub(crate) struct KickTarget {
    immediate_exit: ImmediateExit,
    registration: Registration<pthread_t>,
}

impl KickTarget {
    pub(crate) fn new(vcpu: &VcpuFd) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            immediate_exit: ImmediateExit::map(vcpu)?,
            registration: Registration::new(),
        }))
    }

    pub(crate) fn kicker(self: &Arc<Self>) -> Kicker {
        Kicker {
            target: Arc::downgrade(self),
        }
    }

    /// Registers this thread as about to call KVM_RUN, until the guard is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        // SAFETY: `pthread_self` has no demands; it is unsafe only as a foreign function.
        let this = unsafe { libc::pthread_self() };
        self.registration.enter(this);
        Running(self)
    }

    /// Clears the kick that interrupted the vCPU, so that the next run continues.
    ///
    /// A swap and not a store, as in `kick`: what a kicker wrote before its kick is seen after this.
    pub(crate) fn acknowledge(&self) {
        self.immediate_exit.flag().swap(0, SeqCst);
    }

    fn kick(&self) -> Result<(), KickError> {
        let set_flag = || {
            self.immediate_exit.flag().swap(1, SeqCst);
        };
        self.registration.kick(set_flag, |thread| {
            // SAFETY: `pthread_kill` demands a thread that has neither been joined nor, if
            // detached, ended. `thread` is inside `Vcpu::run`: it has registered itself, and to
            // leave it must take the lock that `Registration::kick` holds during this call. So it
            // cannot end meanwhile. The signal has a handler, so it does not end the process.
            let errno = unsafe { libc::pthread_kill(thread, kick_signal()) };
            match errno {
                0 => Ok(()),
                errno => Err(KickError::Signal {
                    source: io::Error::from_raw_os_error(errno),
                }),
            }
        })
    }
}

/// A registration by [`KickTarget::enter`]; dropping it ends the registration.
pub(crate) struct Running<'a>(&'a KickTarget);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.registration.leave();
    }
}

/// Installs the handler of the kick signal, once in the life of the process.
pub(crate) fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        register_signal_handler(kick_signal(), do_nothing).map_err(|error| error.errno())
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Unblocks the kick signal for this thread.
pub(crate) fn unblock() -> io::Result<()> {
    unblock_signal(kick_signal()).map_err(|_| io::Error::last_os_error())
}

/// It has nothing to do: a handler that runs makes the interrupted system call return.
extern "C" fn do_nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}
