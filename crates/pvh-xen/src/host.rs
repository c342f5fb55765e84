//! What the Xen platform needs of the program around it.

use std::fmt;

use pvh_abi::sched::ShutdownReason;

/// The program around a Xen platform: the console's other end, the log, and the end of the machine.
///
/// The platform's threads are those that the embedder starts: one for each vCPU, one that keeps the time, and those that
/// give the guest console input. Any of them may call any method, several of them at the same time.
///
/// Two locks matter. [`console_output`](Host::console_output), [`console_has_room`](Host::console_has_room),
/// [`guest_log`](Host::guest_log) and [`notice`](Host::notice) are called under the domain's lock, so that
/// text stays in the order in which the guest wrote it. They must return at once and must not call the platform: while one of
/// them waits, no vCPU makes a hypercall and no timer fires. The other methods are called without a lock.
///
/// No method can fail. A host that has no room for text says so, and the platform slows the guest down.
pub trait Host: fmt::Debug + Send + Sync {
    /// Takes what the guest wrote to its console; returns `false` if it dropped the bytes.
    ///
    /// Called under the domain's lock; must not wait. A host should take bytes beyond the limit that
    /// [`console_has_room`](Host::console_has_room) tells, because the vCPU that wrote them waits for room only after this
    /// call. It may drop bytes when the queue grows past a limit of its own: then the platform sends
    /// [`Notice::ConsoleOutputDropped`], once.
    fn console_output(&self, bytes: &[u8]) -> bool;

    /// Tells whether [`wait_for_console_room`](Host::wait_for_console_room) would return at once.
    ///
    /// Called under the domain's lock; must not wait. While it is `false`, the platform empties the console's ring at most once
    /// a millisecond.
    fn console_has_room(&self) -> bool;

    /// Waits until the console takes more output, or until the machine is stopping.
    ///
    /// Called without a lock, by the thread of the vCPU that wrote. This is the only method that may block. It must
    /// return soon after [`is_stopping`](Host::is_stopping) becomes `true`.
    fn wait_for_console_room(&self);

    /// The guest has room for more console input: call
    /// [`XenPlatform::console_input`](crate::XenPlatform::console_input) again, from a thread of the embedder's.
    ///
    /// Called without a lock; must not wait. It may come when nobody has input.
    fn console_input_wanted(&self);

    /// Takes a line that the guest wrote to its hypervisor's log, without its end.
    ///
    /// Called under the domain's lock; must not wait. A guest writes as many lines as it likes: the host bounds them.
    fn guest_log(&self, line: &[u8]);

    /// Takes a message of the platform's own for the user.
    ///
    /// Called under the domain's lock; must not wait.
    fn notice(&self, notice: Notice);

    /// The domain is over, for this reason: the host stops the machine.
    ///
    /// Called without a lock, at most once for each domain, by the thread whose call ended it. The vCPU threads end by
    /// themselves at their next exit; the host makes [`is_stopping`](Host::is_stopping) `true` and calls
    /// [`XenPlatform::stop`](crate::XenPlatform::stop), from another thread if it must wait for something.
    fn end(&self, reason: EndReason);

    /// Tells whether the machine is stopping. Once `true`, it stays `true`.
    ///
    /// Called without a lock, between two runs of a vCPU; must not wait.
    fn is_stopping(&self) -> bool;
}

/// Why a domain is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// The guest switched off.
    PowerOff,
    /// The guest asked to be started anew.
    Reboot,
    /// The guest crashed: it said so, or its watchdog expired.
    Crash(ShutdownReason),
    /// The guest asked for something else that ends a domain: to suspend, a soft reset, or a reason that Xen does not
    /// define.
    Other(ShutdownReason),
}

impl EndReason {
    /// The reason as the guest gave it, or as the watchdog does.
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

/// A message of the platform's own for the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// [`Host::console_output`] dropped bytes for the first time.
    ConsoleOutputDropped,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsoleOutputDropped => f.write_str(
                "the guest prints without end, and nobody reads it: some of it is dropped",
            ),
        }
    }
}
