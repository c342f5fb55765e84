//! The time of a domain, from the guest's time-stamp counter.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pvh_domain::{Now, TscScale};
use pvh_kvm::GuestClock;

/// Tells a domain the time; system time is 0 when the clock is made.
#[derive(Debug)]
pub(crate) struct Clock {
    guest: GuestClock,
    start: u64,
    /// The latest time told, in ticks since the start: time never goes back.
    latest: AtomicU64,
    scale: TscScale,
}

impl Clock {
    /// A clock whose system time is 0 now.
    pub(crate) fn start(guest: GuestClock, tsc_hz: NonZeroU64) -> Self {
        Self {
            guest,
            start: guest.now(),
            latest: AtomicU64::new(0),
            scale: TscScale::of(tsc_hz),
        }
    }

    /// Returns the current time.
    pub(crate) fn now(&self) -> Now {
        let ticks = self.guest.now().wrapping_sub(self.start);
        // The counters of two processors may differ a little: a time before the start counts as the
        // start.
        let ticks = if ticks > u64::MAX / 2 { 0 } else { ticks };
        let ticks = self.latest.fetch_max(ticks, Ordering::Relaxed).max(ticks);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            system_ns: self.scale.nanoseconds(ticks),
            tsc: self.start.wrapping_add(ticks),
            wall_ns: nanoseconds(since.unwrap_or_default()),
        }
    }

    /// Returns the time until a system time, in nanoseconds; zero if it has passed.
    pub(crate) fn until(&self, system_ns: u64) -> Duration {
        Duration::from_nanos(system_ns.saturating_sub(self.now().system_ns))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
