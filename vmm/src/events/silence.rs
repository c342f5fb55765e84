//! Watches for a guest that prints nothing. The time runs on when the guest reboots.

use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events};
use vmm_sys_util::timerfd::TimerFd;

use super::start_timer;

/// The watch for the silence of a guest, over all its machines.
#[derive(Debug)]
pub(super) struct Silence {
    began: Instant,
    /// The user was told, or need not be.
    is_over: bool,
    /// The timer of this machine; dropping it ends the watch.
    timer: Option<TimerFd>,
}

impl Silence {
    /// A watch whose time begins now.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            is_over: false,
            timer: None,
        }
    }

    /// Starts the timer of a machine; its events have `data`. Returns whether the time is over: a
    /// guest that reboots again and again may not leave a machine the time for an event. If the
    /// host has no timer, there is no event.
    pub(super) fn watch(&mut self, ops: &mut EventOps, data: u32) -> bool {
        if self.is_over {
            return false;
        }
        let Some(left) = self.left() else {
            return true;
        };
        let added = |timer: &TimerFd| {
            ops.add(Events::with_data(timer, data, EventSet::IN))
                .is_ok()
        };
        self.timer = start_timer(left).ok().filter(added);
        false
    }

    /// Ends the watch, for this machine and all later ones.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.timer = None;
    }

    /// The rest of the time, if there is any.
    fn left(&self) -> Option<Duration> {
        let left = SILENCE_TIME.checked_sub(self.began.elapsed());
        left.filter(|left| !left.is_zero())
    }
}

/// Time without output until the user gets a hint.
const SILENCE_TIME: Duration = Duration::from_secs(10);
