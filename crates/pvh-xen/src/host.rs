//! What the Xen platform needs of the program around it.

use std::fmt;

use pvh_abi::sched::ShutdownReason;

/// The program around a Xen platform: the console, the log, and the end of the machine.
///
/// Threads: the platform calls these methods from all threads that the embedder started for it (one
/// for each vCPU, one that keeps the time, those that deliver console input), several at the same
/// time.
///
/// Locks: [`console_output`](Host::console_output), [`console_has_room`](Host::console_has_room),
/// [`guest_log`](Host::guest_log) and [`notice`](Host::notice) are called under the domain's lock,
/// so that text stays in the order in which the guest wrote it. They must return at once and must
/// not call the platform: while one of them waits, no vCPU can make a hypercall and no timer fires.
/// The other methods are called without a lock.
///
/// Errors: no method fails. A host that has no room for text says so, and the platform slows the
/// guest down.
pub trait Host: fmt::Debug + Send + Sync {
    /// Takes console output; returns `false` if the host dropped it.
    ///
    /// Called under the domain's lock; must not wait. The vCPU that wrote waits for room only after
    /// this call, so a host takes more bytes than the limit that
    /// [`console_has_room`](Host::console_has_room) reports, up to a second limit. Beyond that it
    /// drops bytes; the platform then sends [`Notice::ConsoleOutputDropped`], once.
    fn console_output(&self, bytes: &[u8]) -> bool;

    /// Whether [`wait_for_console_room`](Host::wait_for_console_room) would return at once.
    ///
    /// Called under the domain's lock; must not wait. While it is `false`, the platform empties the
    /// console's ring at most once a millisecond.
    fn console_has_room(&self) -> bool;

    /// Waits until there is room for console output, or the machine is stopping.
    ///
    /// Called without a lock, on the thread of the vCPU that wrote. This is the only method that
    /// may block. It must return soon after [`is_stopping`](Host::is_stopping) becomes `true`.
    fn wait_for_console_room(&self);

    /// The guest has room for console input: call
    /// [`XenPlatform::console_input`](crate::XenPlatform::console_input) again, from a thread of
    /// the embedder's.
    ///
    /// Called without a lock; must not wait. It may be called when there is no input.
    fn console_input_wanted(&self);

    /// Takes a line of the guest's log (port 0xE9), without its end.
    ///
    /// Called under the domain's lock; must not wait. The guest decides how many lines there are:
    /// the host must bound them.
    fn guest_log(&self, line: &[u8]);

    /// Takes a message of the platform for the user.
    ///
    /// Called under the domain's lock; must not wait.
    fn notice(&self, notice: Notice);

    /// The domain is over: the host is to stop the machine.
    ///
    /// Called without a lock, at most once for each domain, by the thread whose call ended it. The
    /// thread that was running this vCPU returns by itself. For the others the host makes
    /// [`is_stopping`](Host::is_stopping) `true`, then calls
    /// [`XenPlatform::stop`](crate::XenPlatform::stop); it may do so later, from another thread.
    fn end(&self, reason: EndReason);

    /// Whether the machine is stopping. Once `true`, it stays `true`.
    ///
    /// Called without a lock, before each run of a vCPU; must not wait.
    fn is_stopping(&self) -> bool;
}

/// Why a domain is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked to reboot.
    Reboot,
    /// The guest crashed: it said so, or its watchdog expired.
    Crash(ShutdownReason),
    /// The guest asked for something else that ends a domain: suspend, or a reason that Xen does
    /// not define.
    Other(ShutdownReason),
}

impl EndReason {
    /// Returns the number that the guest gave, or that the watchdog uses.
    #[must_use]
    pub const fn shutdown_reason(self) -> ShutdownReason {
        match self {
            Self::PowerOff => ShutdownReason::POWEROFF,
            Self::Reboot => ShutdownReason::REBOOT,
            Self::Crash(reason) | Self::Other(reason) => reason,
        }
    }
}

impl From<ShutdownReason> for EndReason {
    fn from(reason: ShutdownReason) -> Self {
        match reason {
            ShutdownReason::POWEROFF => Self::PowerOff,
            ShutdownReason::REBOOT => Self::Reboot,
            ShutdownReason::CRASH | ShutdownReason::WATCHDOG => Self::Crash(reason),
            reason => Self::Other(reason),
        }
    }
}

/// A message of the platform for the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// [`Host::console_output`] dropped bytes for the first time.
    ConsoleOutputDropped,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsoleOutputDropped => {
                f.write_str("console output is dropped: the guest prints faster than it is read")
            }
        }
    }
}
