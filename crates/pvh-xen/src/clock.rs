//! The time of a domain: the guest's time-stamp counter, and what follows from it.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pvh_domain::{domain::Now, time::TscScale};
use pvh_kvm::GuestClock;

/// Tells a domain what time it is; system time is 0 when it is made.
#[derive(Debug)]
pub(crate) struct Clock {
    guest: GuestClock,
    start: u64,
    /// The latest that was told, in ticks since the start: time does not go back.
    latest: AtomicU64,
    scale: TscScale,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start(guest: GuestClock, tsc_hz: NonZeroU64) -> Self {
        Self {
            guest,
            start: guest.now(),
            latest: AtomicU64::new(0),
            scale: TscScale::of(tsc_hz),
        }
    }

    /// Tells the time.
    pub(crate) fn now(&self) -> Now {
        let ticks = self.guest.now().wrapping_sub(self.start);
        // Counters of two processors may differ a little: what is before the start is no time at all.
        let ticks = if ticks > u64::MAX / 2 { 0 } else { ticks };
        let ticks = self.latest.fetch_max(ticks, Ordering::Relaxed).max(ticks);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            system_ns: self.scale.nanoseconds(ticks),
            tsc: self.start.wrapping_add(ticks),
            wall_ns: nanoseconds(since.unwrap_or_default()),
        }
    }

    /// Tells how long it is until a system time.
    pub(crate) fn until(&self, system_ns: u64) -> Duration {
        Duration::from_nanos(system_ns.saturating_sub(self.now().system_ns))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
