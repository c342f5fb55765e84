//! `sched_op`: sub-operations and structures (xen/include/public/sched.h).

use zerocopy::little_endian::{I32, U16, U32, U64};

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `sched_op`.
    #[doc(alias = "SCHEDOP")]
    SchedOp: u32 {
        /// Yields the processor.
        YIELD = 0,
        /// Blocks until an event is pending.
        BLOCK = 1,
        /// Stops the domain.
        SHUTDOWN = 2,
        /// Blocks until one of the given ports is pending.
        POLL = 3,
        /// Stops another domain.
        REMOTE_SHUTDOWN = 4,
        /// Sets the reason of a later shutdown.
        SHUTDOWN_CODE = 5,
        /// Sets, resets or stops a watchdog.
        WATCHDOG = 6,
        /// Pins the vCPU for a while.
        PIN_OVERRIDE = 7,
    }
}

open_set! {
    /// The reason why a domain stops.
    #[doc(alias = "SHUTDOWN")]
    ShutdownReason: u8 {
        /// The domain powers off.
        POWEROFF = 0,
        /// The domain reboots.
        REBOOT = 1,
        /// The domain suspends.
        SUSPEND = 2,
        /// The domain crashed.
        CRASH = 3,
        /// The domain's watchdog fired.
        WATCHDOG = 4,
        /// The domain's ports and shared areas are reset; its memory is kept.
        SOFT_RESET = 5,
    }
}

/// The most ports that one `poll` may name.
pub const MAX_POLL_PORTS: u32 = 128;

wire! {
    /// The argument of `poll`, 64-bit callers.
    #[doc(alias = "sched_poll")]
    SchedPoll: 24 {
        /// Linear address of the port numbers, 4 bytes each.
        pub ports: U64 = 0,
        /// The number of ports.
        pub nr_ports: U32 = 8,
        /// Padding.
        pub pad: U32 = 12,
        /// Absolute system time in ns, 0 for none.
        pub timeout: U64 = 16,
    }
}

wire! {
    /// The argument of `poll`, 32-bit callers.
    #[doc(alias = "sched_poll")]
    SchedPollCompat: 16 {
        /// Linear address of the port numbers, 4 bytes each.
        pub ports: U32 = 0,
        /// The number of ports.
        pub nr_ports: U32 = 4,
        /// Absolute system time in ns, 0 for none.
        pub timeout: U64 = 8,
    }
}

wire! {
    /// The argument of `shutdown` and `shutdown_code`.
    #[doc(alias = "sched_shutdown")]
    SchedShutdown: 4 {
        /// The low 8 bits are a [`ShutdownReason`].
        pub reason: U32 = 0,
    }
}

wire! {
    /// The argument of `remote_shutdown`.
    #[doc(alias = "sched_remote_shutdown")]
    SchedRemoteShutdown: 8 {
        /// The domain to stop.
        pub domain_id: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// A [`ShutdownReason`].
        pub reason: U32 = 4,
    }
}

wire! {
    /// The argument of `watchdog`.
    #[doc(alias = "sched_watchdog")]
    SchedWatchdog: 8 {
        /// 0 for a new one.
        pub id: U32 = 0,
        /// Seconds from now, 0 to stop it.
        pub timeout: U32 = 4,
    }
}

wire! {
    /// The argument of `pin_override`.
    #[doc(alias = "sched_pin_override")]
    SchedPinOverride: 4 {
        /// The physical CPU, negative to unpin.
        pub pcpu: I32 = 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_sched_h() {
        assert_eq!(SchedOp(3).name(), Some("POLL"));
        assert_eq!(SchedOp(7).name(), Some("PIN_OVERRIDE"));
        assert_eq!(SchedOp(8).name(), None);
        assert_eq!(ShutdownReason(5).name(), Some("SOFT_RESET"));
        assert_eq!(ShutdownReason::CRASH.0, 3);
        assert_eq!(MAX_POLL_PORTS, 128);
    }
}
