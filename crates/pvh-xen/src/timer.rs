//! When something of a domain is due.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The earliest moments at which the domain, and upcalls that are to be retried, want to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    /// When the domain's next deadline is.
    domain: Option<Instant>,
    /// When an upcall is to be retried.
    retry: Option<Instant>,
    /// When vCPUs are to be looked at that have been silent.
    silent_check: Option<Instant>,
    is_stopped: bool,
}

impl Plan {
    fn next(&self) -> Option<Instant> {
        let all = [self.domain, self.retry, self.silent_check];
        all.into_iter().flatten().min()
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DueNow {
    /// The domain's deadline.
    pub(crate) domain: bool,
    /// Some upcall.
    pub(crate) retry: bool,
    /// A look at silent vCPUs.
    pub(crate) silent_check: bool,
}

impl Timer {
    /// Says when the domain's next deadline is.
    pub(crate) fn set_deadline(&self, at: Option<Instant>) {
        let mut plan = self.lock();
        let is_earlier = at.is_some_and(|at| plan.next().is_none_or(|next| at < next));
        plan.domain = at;
        drop(plan);
        if is_earlier {
            self.changed.notify_all();
        }
    }

    /// Asks for upcalls to be looked at, at this moment or before.
    pub(crate) fn retry_at(&self, at: Instant) {
        let mut plan = self.lock();
        let is_earlier = plan.next().is_none_or(|next| at < next);
        plan.retry = Some(plan.retry.map_or(at, |before| before.min(at)));
        drop(plan);
        if is_earlier {
            self.changed.notify_all();
        }
    }

    /// Ends every wait, now and later.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits until something is due, and forgets it; `None` once it is stopped.
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
            };
            if plan.silent_check.is_none() {
                plan.silent_check = now.checked_add(SILENT_CHECK_INTERVAL);
            }
            if due.domain || due.retry || due.silent_check {
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

/// How often vCPUs are looked at that have not left the guest.
const SILENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_due_first_is_told_first_and_once() {
        let timer = Timer::default();
        let now = Instant::now();
        timer.set_deadline(Some(now + Duration::from_millis(20)));
        timer.retry_at(now + Duration::from_millis(5));
        timer.retry_at(now + Duration::from_secs(60));
        let (domain, retry) = (true, true);
        let silent_check = false;
        let first = DueNow {
            domain: false,
            retry,
            silent_check,
        };
        assert_eq!(timer.wait(), Some(first));
        let second = DueNow {
            domain,
            retry: false,
            silent_check,
        };
        assert_eq!(timer.wait(), Some(second));
        assert!(now.elapsed() >= Duration::from_millis(20));
        timer.stop();
        assert_eq!(timer.wait(), None);
    }

    #[test]
    fn with_nothing_to_do_there_is_a_pulse() {
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
    fn an_earlier_deadline_ends_a_longer_wait() {
        let timer = Timer::default();
        let start = Instant::now();
        timer.set_deadline(Some(start + Duration::from_secs(60)));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| timer.wait());
            thread::sleep(Duration::from_millis(10));
            timer.set_deadline(Some(start));
            assert!(waiting.join().unwrap().is_some_and(|due| due.domain));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
