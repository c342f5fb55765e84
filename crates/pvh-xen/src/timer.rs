//! The deadlines of a domain, and the wait for the next one.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The next deadline of the domain, of upcall retries, and of the check of silent vCPUs.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    /// The domain's next deadline.
    domain: Option<Instant>,
    /// The same in ns of system time, as it was set last.
    domain_ns: Option<u64>,
    /// The next upcall retry.
    retry: Option<Instant>,
    /// The next check of vCPUs that have not left the guest.
    silent_check: Option<Instant>,
    /// When to ask the host for console input again.
    input: Option<Instant>,
    is_stopped: bool,
}

impl Plan {
    fn next(&self) -> Option<Instant> {
        let all = [self.domain, self.retry, self.silent_check, self.input];
        all.into_iter().flatten().min()
    }
}

/// What is due now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DueNow {
    /// The domain's deadline.
    pub(crate) domain: bool,
    /// An upcall retry.
    pub(crate) retry: bool,
    /// A check of silent vCPUs.
    pub(crate) silent_check: bool,
    /// A request for console input.
    pub(crate) input: bool,
}

impl Timer {
    /// Sets the domain's next deadline, a system time in ns, and the moment when it is due.
    ///
    /// The moment is computed anew for every call of the domain, and differs by rounding each time:
    /// the same deadline wakes nobody again. Only deadline 0, "at once", may have become earlier.
    pub(crate) fn set_deadline(&self, deadline_ns: Option<u64>, at: Option<Instant>) {
        let mut plan = self.lock();
        let is_new = deadline_ns == Some(0) || plan.domain_ns != deadline_ns;
        let is_earlier = at.is_some_and(|at| plan.next().is_none_or(|next| at < next));
        (plan.domain, plan.domain_ns) = (at, deadline_ns);
        drop(plan);
        if is_new && is_earlier {
            self.changed.notify_all();
        }
    }

    /// Schedules an upcall retry at this moment or earlier.
    pub(crate) fn retry_at(&self, at: Instant) {
        let mut plan = self.lock();
        let is_earlier = plan.next().is_none_or(|next| at < next);
        plan.retry = Some(plan.retry.map_or(at, |before| before.min(at)));
        drop(plan);
        if is_earlier {
            self.changed.notify_all();
        }
    }

    /// Has the host asked for console input after this time.
    pub(crate) fn ask_for_input_in(&self, delay: Duration) {
        let mut plan = self.lock();
        plan.input = plan.input.or_else(|| Instant::now().checked_add(delay));
        drop(plan);
        self.changed.notify_all();
    }

    /// Ends all waits, now and later.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits until something is due and removes it; `None` once stopped.
    pub(crate) fn wait(&self) -> Option<DueNow> {
        let mut plan = self.lock();
        loop {
            if plan.is_stopped {
                return None;
            }
            let now = Instant::now();
            let due = DueNow {
                domain: plan.domain.take_if(|at| *at <= now).is_some(),
                retry: plan.retry.take_if(|at| *at <= now).is_some(),
                silent_check: plan.silent_check.take_if(|at| *at <= now).is_some(),
                input: plan.input.take_if(|at| *at <= now).is_some(),
            };
            if plan.silent_check.is_none() {
                plan.silent_check = now.checked_add(SILENT_CHECK_INTERVAL);
            }
            if due.domain || due.retry || due.silent_check || due.input {
                return Some(due);
            }
            plan = match plan.next() {
                Some(next) => {
                    let left = next.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(plan, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(plan);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often vCPUs that have not left the guest are checked.
const SILENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_deadline_is_reported_once_in_order() {
        let timer = Timer::default();
        let now = Instant::now();
        timer.set_deadline(Some(20), Some(now + Duration::from_millis(20)));
        timer.retry_at(now + Duration::from_millis(5));
        timer.retry_at(now + Duration::from_secs(60));
        let (domain, retry) = (true, true);
        let silent_check = false;
        let first = DueNow {
            domain: false,
            retry,
            silent_check,
            input: false,
        };
        assert_eq!(timer.wait(), Some(first));
        let second = DueNow {
            domain,
            retry: false,
            silent_check,
            input: false,
        };
        assert_eq!(timer.wait(), Some(second));
        assert!(now.elapsed() >= Duration::from_millis(20));
        timer.stop();
        assert_eq!(timer.wait(), None);
    }

    #[test]
    fn silent_vcpus_are_checked_every_second() {
        let timer = Timer::default();
        let start = Instant::now();
        assert!(
            timer
                .wait()
                .is_some_and(|due| due.silent_check && !due.domain)
        );
        assert!(start.elapsed() >= SILENT_CHECK_INTERVAL);
    }

    #[test]
    fn the_same_deadline_computed_again_wakes_nobody_and_still_ends_the_wait() {
        let timer = Timer::default();
        let start = Instant::now();
        let due = start + Duration::from_millis(50);
        timer.set_deadline(Some(50), Some(due));
        // Rounded to a nanosecond less each time, as calls of the domain do it.
        for less in 1..1000 {
            timer.set_deadline(Some(50), Some(due - Duration::from_nanos(less)));
        }
        assert!(timer.wait().is_some_and(|due| due.domain));
        let waited = start.elapsed();
        assert!((Duration::from_millis(49)..Duration::from_secs(1)).contains(&waited));
    }

    #[test]
    fn an_earlier_deadline_ends_a_longer_wait() {
        let timer = Timer::default();
        let start = Instant::now();
        timer.set_deadline(Some(60), Some(start + Duration::from_secs(60)));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| timer.wait());
            thread::sleep(Duration::from_millis(10));
            timer.set_deadline(Some(1), Some(start));
            assert!(waiting.join().unwrap().is_some_and(|due| due.domain));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
