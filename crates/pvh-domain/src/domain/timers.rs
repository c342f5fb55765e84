//! Everything that happens at a set time: timers of vCPUs, ends of polls, watchdogs, new stamps.

use pvh_abi::{Errno, event_channel::Virq, sched::ShutdownReason};

use super::{Domain, Env, Now};
use crate::parts::runstate::RunState;

/// The watchdogs of a domain, at most two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watchdogs([Option<Watchdog>; 2]);

/// A watchdog in use, with the system time in ns at which it fires.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    due_ns: Option<u64>,
}

impl Watchdogs {
    /// `SCHEDOP_watchdog`: makes a watchdog (`id` 0), restarts it, or deletes it (`timeout_s` 0). A
    /// new one with no time left fires at once, as in Xen.
    pub(super) fn set(&mut self, id: u32, timeout_s: u32, now_ns: u64) -> Result<u32, Errno> {
        let Self(all) = self;
        let wait_ns = u64::from(timeout_s).saturating_mul(NS_PER_SECOND);
        let new = Watchdog {
            due_ns: Some(now_ns.saturating_add(wait_ns)),
        };
        let Some(index) = id.checked_sub(1) else {
            let mut numbered = (1_u32..).zip(all);
            let free = numbered.find(|(_, watchdog)| watchdog.is_none());
            let (id, watchdog) = free.ok_or(Errno::ENOSPC)?;
            *watchdog = Some(new);
            return Ok(id);
        };
        let slot = all.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        if slot.is_none() {
            return Err(Errno::EINVAL);
        }
        *slot = (timeout_s != 0).then_some(new);
        Ok(0)
    }

    fn earliest(&self) -> Option<u64> {
        let Self(all) = self;
        all.iter()
            .flatten()
            .filter_map(|watchdog| watchdog.due_ns)
            .min()
    }

    /// Stops the watchdogs that are due, and tells whether any was.
    fn take_due(&mut self, now_ns: u64) -> bool {
        let Self(all) = self;
        let mut is_due = false;
        for watchdog in all.iter_mut().flatten() {
            is_due |= take_due(&mut watchdog.due_ns, now_ns);
        }
        is_due
    }
}

impl Domain {
    /// `set_timer_op`: a time that is negative or too far ahead becomes 100 ms from now.
    pub(super) fn set_timer(&mut self, env: &mut Env<'_>, vcpu: u32, at_ns: i64) {
        let now_ns = env.now.system_ns;
        let at_ns = match u64::try_from(at_ns) {
            Ok(0) => return self.stop_singleshot(vcpu),
            Ok(at_ns) if at_ns.saturating_sub(now_ns) < TIMEOUT_LIMIT_NS => at_ns,
            _ => now_ns.saturating_add(FALLBACK_TIMEOUT_NS),
        };
        self.set_singleshot(env, vcpu, at_ns);
    }

    /// Starts the one-shot timer of a vCPU; it fires at once if the time has come.
    pub(super) fn set_singleshot(&mut self, env: &mut Env<'_>, vcpu: u32, at_ns: u64) {
        let is_due = is_past(at_ns, env.now.system_ns);
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.singleshot_ns = (!is_due).then_some(at_ns);
        }
        if is_due {
            self.timer_event(env, vcpu);
        }
    }

    pub(super) fn stop_singleshot(&mut self, vcpu: u32) {
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.singleshot_ns = None;
        }
    }

    /// Starts or stops the periodic timer of a vCPU. It fires at once if it did not fire for a
    /// period.
    pub(super) fn set_periodic(&mut self, env: &mut Env<'_>, vcpu: u32, period_ns: Option<u64>) {
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.periodic.period_ns = period_ns;
            self.run_periodic(env, vcpu);
        }
    }

    /// Fires the periodic timer of a vCPU if it is due.
    pub(super) fn run_periodic(&mut self, env: &mut Env<'_>, vcpu: u32) {
        let now_ns = env.now.system_ns;
        let data = self.vcpus.get_mut(vcpu as usize);
        let Some(data) =
            data.filter(|data| data.periodic.due_ns().is_some_and(|due| due <= now_ns))
        else {
            return;
        };
        data.periodic.last_ns = now_ns;
        self.timer_event(env, vcpu);
    }

    /// The earliest deadline in ns of system time.
    pub(super) fn earliest(&self) -> Option<u64> {
        if self.is_over {
            return None;
        }
        let of_vcpus = self.vcpus.iter().flat_map(|data| {
            let periodic = data.periodic.due_ns();
            let periodic = periodic.filter(|_| runs(data.runstate.state()));
            [data.singleshot_ns, data.poll_until_ns, periodic]
        });
        let again = self.has_ring_work.then_some(0);
        let all = of_vcpus.chain([self.watchdogs.earliest(), again, self.time_due()]);
        all.flatten().min()
    }

    /// Serves every deadline that has passed: each timer fires at most once.
    pub(super) fn run_due(&mut self, env: &mut Env<'_>) {
        if self.is_over {
            return;
        }
        let Now {
            system_ns: now_ns, ..
        } = env.now;
        if self.time_due().is_some_and(|due| due <= now_ns) {
            self.refresh_time(env.memory, env.now);
        }
        for vcpu in 0..self.config.vcpus {
            let Some(data) = self.vcpus.get_mut(vcpu as usize) else {
                break;
            };
            let singleshot = take_due(&mut data.singleshot_ns, now_ns);
            let poll = take_due(&mut data.poll_until_ns, now_ns);
            if singleshot {
                self.timer_event(env, vcpu);
            }
            if poll {
                self.wake(env, vcpu);
            }
        }
        if self.watchdogs.take_due(now_ns) {
            self.shut_down(env, ShutdownReason::WATCHDOG);
        }
        if core::mem::take(&mut self.has_ring_work) {
            self.serve_rings(env);
        }
        self.run_periodics(env);
    }

    /// Fires the periodic timers that are due, also those of vCPUs that this tick woke.
    fn run_periodics(&mut self, env: &mut Env<'_>) {
        for vcpu in 0..self.config.vcpus {
            let data = self.vcpus.get(vcpu as usize);
            if data.is_some_and(|data| runs(data.runstate.state())) {
                self.run_periodic(env, vcpu);
            }
        }
    }

    fn timer_event(&mut self, env: &mut Env<'_>, vcpu: u32) {
        self.with_events(env, |events, delivery| {
            events.raise_virq(delivery, vcpu, Virq::TIMER);
        });
    }
}

/// Tells whether a time that a guest gave has come. Xen takes it for a signed number.
pub(super) fn is_past(at_ns: u64, now_ns: u64) -> bool {
    at_ns <= now_ns || i64::try_from(at_ns).is_err()
}

/// A periodic timer stops while its vCPU sleeps or is down.
const fn runs(state: RunState) -> bool {
    matches!(state, RunState::Running | RunState::Runnable)
}

/// Stops a timer that is due, and tells whether it was.
fn take_due(timer: &mut Option<u64>, now_ns: u64) -> bool {
    timer.take_if(|due| *due <= now_ns).is_some()
}

const NS_PER_SECOND: u64 = 1_000_000_000;
/// 2^50 ns, 13 days.
const TIMEOUT_LIMIT_NS: u64 = 1 << 50;
const FALLBACK_TIMEOUT_NS: u64 = 100_000_000;
