//! What other threads leave for the thread of one vCPU.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pvh_kvm::Kicker;

/// Requests for a vCPU's thread, and where it is. A note is left first, then the thread is kicked out of the guest, so
/// none is overlooked.
#[derive(Debug)]
pub(crate) struct VcpuRequests {
    kicker: Kicker,
    pending: Mutex<Requests>,
    changed: Condvar,
    /// The thread is in the guest, about to be, or stays out of it by orders: it answers who asks. It does not while it serves
    /// an exit of its own.
    is_inside: AtomicBool,
    /// How often somebody has asked what has become of the vCPU.
    query_count: AtomicU64,
    /// As many of these are answered.
    acknowledged_count: AtomicU64,
    /// Something was done that may go before an INIT.
    is_poll_reset: AtomicBool,
    /// The thread has been in the guest since it was last looked at.
    is_silent: AtomicBool,
}

/// What a vCPU's thread is to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Requests {
    /// Ask the domain for orders.
    pub(crate) orders: bool,
    /// Sleep no longer.
    pub(crate) wake: bool,
    /// Send the vCPU an NMI.
    pub(crate) nmi: bool,
    /// Flush its TLB.
    pub(crate) flush: bool,
    /// Inject this vector.
    pub(crate) inject: Option<u8>,
    /// The level of the vector that all vCPUs share, until the guest has cleared its flag.
    level: Option<Retry>,
    /// How long it waited last because it could not be injected.
    level_delay: Duration,
    /// The edge of the vCPU's own vector, which its local APIC has not taken yet.
    edge: Option<Retry>,
}

/// An upcall that is to be looked at again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Retry {
    vector: u8,
    at: Instant,
    /// How long it waited last.
    delay: Duration,
}

/// An upcall whose time has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// The vector that all vCPUs share: to be injected anew if the flag is still set.
    Level(u8),
    /// The vCPU's own vector: to be sent anew if the flag is still set.
    Edge(u8),
}

impl VcpuRequests {
    pub(crate) fn new(kicker: Kicker) -> Self {
        Self {
            kicker,
            pending: Mutex::new(Requests::default()),
            changed: Condvar::new(),
            is_inside: AtomicBool::new(false),
            query_count: AtomicU64::new(0),
            acknowledged_count: AtomicU64::new(0),
            is_poll_reset: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Leaves a note and has it looked at.
    pub(crate) fn post(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.lock());
        self.changed.notify_all();
        self.kick();
    }

    /// Makes the vCPU leave the guest, now or as soon as it enters it.
    pub(crate) fn kick(&self) {
        // A signal that the host refuses leaves the request to stop at the next exit.
        let _ = self.kicker.kick();
    }

    /// Takes what is to be done now; what is to be retried stays.
    pub(crate) fn take(&self) -> Requests {
        let mut pending = self.lock();
        let taken = *pending;
        *pending = Requests {
            level: taken.level,
            level_delay: taken.level_delay,
            edge: taken.edge,
            ..Requests::default()
        };
        taken
    }

    /// Takes the note to ask for orders, and nothing else.
    pub(crate) fn take_orders(&self) -> bool {
        std::mem::take(&mut self.lock().orders)
    }

    /// Forgets that the vCPU was to sleep no longer: it begins a new sleep.
    pub(crate) fn forget_wake(&self) {
        self.lock().wake = false;
    }

    /// Waits for orders, a query or a stir, at most so long; tells whether it was in vain.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let pending = self.lock();
        let is_quiet = |pending: &Requests| !pending.orders && !self.has_query();
        let idle = |pending: &mut Requests| {
            is_quiet(pending) && !self.is_poll_reset.load(Ordering::SeqCst)
        };
        let waited = self.changed.wait_timeout_while(pending, limit, idle);
        let (pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let was_poll_reset = self.is_poll_reset.swap(false, Ordering::SeqCst);
        is_quiet(&pending) && !was_poll_reset
    }

    /// Has a thread that stays out of the guest look for INIT more often again.
    pub(crate) fn reset_poll_interval(&self) {
        self.is_poll_reset.store(true, Ordering::SeqCst);
        // Under the lock, so that nobody goes to sleep between looking and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// The thread is about to enter the guest.
    pub(crate) fn enter(&self) {
        self.is_silent.store(false, Ordering::Relaxed);
        self.is_inside.store(true, Ordering::SeqCst);
    }

    /// Kicks a thread that has been in the guest since the last time: its vCPU may have halted for good, which KVM does not
    /// tell, and that may be the last one's end.
    pub(crate) fn kick_if_silent(&self) {
        if self.is_silent.swap(true, Ordering::Relaxed) && self.is_inside.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    /// The thread serves an exit of its own, after it has told what it found.
    pub(crate) fn leave_guest(&self) {
        self.is_inside.store(false, Ordering::SeqCst);
        self.acknowledge(self.queries());
    }

    /// How many queries there are: to be taken before the thread looks at its vCPU, and answered after it has.
    pub(crate) fn queries(&self) -> u64 {
        self.query_count.load(Ordering::SeqCst)
    }

    /// Tells whoever asked so far that what was found is known.
    pub(crate) fn acknowledge(&self, queries: u64) {
        if self.acknowledged_count.swap(queries, Ordering::SeqCst) != queries {
            // Under the lock, so that nobody goes to sleep between looking and waiting.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn has_query(&self) -> bool {
        self.queries() != self.acknowledged_count.load(Ordering::SeqCst)
    }

    /// Asks a thread that is in the guest, or stays out of it by orders, to look at its vCPU, and waits until it has; gives up
    /// on one that does not.
    pub(crate) fn query_state(&self) {
        let pending = self.lock();
        let query = self
            .query_count
            .fetch_add(1, Ordering::SeqCst)
            .wrapping_add(1);
        if !self.is_inside.load(Ordering::SeqCst) {
            return;
        }
        self.kick();
        self.changed.notify_all();
        let is_open = |_: &mut Requests| {
            self.is_inside.load(Ordering::SeqCst)
                && self.acknowledged_count.load(Ordering::SeqCst) < query
        };
        let waited = self
            .changed
            .wait_timeout_while(pending, VCPU_REPLY_TIMEOUT, is_open);
        drop(waited);
    }

    /// Requests when the shared vector is to be looked at again: soon, if it could not be injected.
    pub(crate) fn schedule_level_retry(&self, vector: u8, was_injected: bool) -> Instant {
        let mut pending = self.lock();
        let waited = pending.level_delay.saturating_mul(2);
        let (delay, level_delay) = if was_injected {
            (MAX_LEVEL_RETRY, Duration::ZERO)
        } else {
            let delay = waited.clamp(MIN_LEVEL_RETRY, MAX_LEVEL_RETRY);
            (delay, delay)
        };
        pending.level_delay = level_delay;
        let retry = Retry::after(vector, delay);
        pending.level = Some(retry);
        retry.at
    }

    /// Whether the shared vector is going to be looked at again.
    pub(crate) fn has_level_retry(&self) -> bool {
        self.lock().level.is_some()
    }

    /// Requests that the vCPU's own vector was not taken; says when it is to be tried again.
    pub(crate) fn schedule_edge_retry(&self, vector: u8) -> Instant {
        let mut pending = self.lock();
        let waited = pending.edge.map_or(Duration::ZERO, |before| before.delay);
        let delay = waited
            .saturating_mul(2)
            .clamp(MIN_EDGE_RETRY, MAX_EDGE_RETRY);
        let retry = Retry::after(vector, delay);
        pending.edge = Some(retry);
        retry.at
    }

    /// Forgets an edge: the local APIC has taken it.
    pub(crate) fn cancel_edge_retry(&self) {
        self.lock().edge = None;
    }

    /// Takes the upcalls whose time has come, and tells when the next one's will have.
    pub(crate) fn due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut pending = self.lock();
        let mut due = Vec::new();
        if let Some(retry) = pending.level.take_if(|retry| retry.at <= now) {
            due.push(Due::Level(retry.vector));
        }
        if let Some(retry) = pending.edge.filter(|retry| retry.at <= now) {
            due.push(Due::Edge(retry.vector));
        }
        let rest = [pending.level, pending.edge.filter(|retry| retry.at > now)];
        let next = rest.into_iter().flatten().map(|retry| retry.at).min();
        (due, next)
    }

    /// Forgets an edge that is due, for there is nothing to tell any more; one that came meanwhile stays.
    pub(crate) fn cancel_due_edge_retry(&self) {
        let now = Instant::now();
        self.lock().edge.take_if(|retry| retry.at <= now);
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retry {
    fn after(vector: u8, delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            vector,
            at: now.checked_add(delay).unwrap_or(now),
            delay,
        }
    }
}

/// A guest that holds interrupts off does so for some microseconds as a rule.
const MIN_LEVEL_RETRY: Duration = Duration::from_micros(100);
/// A flag that the guest leaves set makes it be interrupted again so often.
const MAX_LEVEL_RETRY: Duration = Duration::from_millis(1);
const MIN_EDGE_RETRY: Duration = Duration::from_millis(1);
/// A vCPU that is not started yet can be waited for longer.
const MAX_EDGE_RETRY: Duration = Duration::from_millis(16);
/// A thread comes out of the guest within microseconds, on a busy host within milliseconds.
const VCPU_REPLY_TIMEOUT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use pvh_kvm::{GuestRam, Kvm, Vm, VmConfig};
    use std::{sync::Arc, thread};

    use super::*;

    /// The requests of a vCPU that nobody runs.
    fn requests() -> VcpuRequests {
        let ram = Arc::new(GuestRam::new(1 << 20).unwrap());
        let vm = Vm::new(&Kvm::open().unwrap(), &VmConfig::new(1), ram).unwrap();
        VcpuRequests::new(vm.create_vcpu(0).unwrap().kicker())
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_note_is_taken_once_and_what_is_watched_stays() {
        let requests = requests();
        requests.post(|pending| pending.wake = true);
        requests.schedule_edge_retry(0xF3);
        assert!(requests.take().wake);
        assert!(!requests.take().wake);
        thread::sleep(MIN_EDGE_RETRY);
        assert_eq!(requests.due(Instant::now()).0, [Due::Edge(0xF3)]);
        requests.post(|pending| pending.orders = true);
        assert!(requests.take_orders() && !requests.take_orders());
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_cannot_be_injected_is_tried_more_and_more_slowly() {
        let requests = requests();
        let mut delays = Vec::new();
        for _ in 0..6 {
            let start = Instant::now();
            let at = requests.schedule_level_retry(0xF3, false);
            delays.push(at.saturating_duration_since(start));
            assert_eq!(
                requests.due(at).0,
                [Due::Level(0xF3)],
                "whoever is due is off the requests"
            );
        }
        assert!(
            delays[0] < delays[3] && delays[5] >= MAX_LEVEL_RETRY,
            "{delays:?}"
        );
        requests.schedule_level_retry(0xF3, true);
        assert!(requests.has_level_retry());
        let start = Instant::now();
        let at = requests.schedule_level_retry(0xF3, false);
        assert!(
            at.saturating_duration_since(start) < MAX_LEVEL_RETRY,
            "anew after one that went in"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_edge_is_tried_until_it_is_taken_or_there_is_nothing_to_tell() {
        let requests = requests();
        let first = requests.schedule_edge_retry(0xF3);
        let second = requests.schedule_edge_retry(0xF3);
        assert!(second > first, "more slowly");
        requests.cancel_due_edge_retry();
        assert_eq!(
            requests.due(Instant::now()).1,
            Some(second),
            "it is not due yet"
        );
        requests.cancel_edge_retry();
        assert_eq!(requests.due(second), (Vec::new(), None));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_thread_that_serves_an_exit_is_not_waited_for() {
        let requests = requests();
        let start = Instant::now();
        requests.query_state();
        assert!(start.elapsed() < VCPU_REPLY_TIMEOUT);
        requests.enter();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                requests.leave_guest();
            });
            requests.query_state();
        });
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn who_looked_before_it_was_asked_has_not_answered() {
        let requests = requests();
        requests.enter();
        let start = Instant::now();
        assert!(requests.wait(Duration::from_millis(1)));
        thread::scope(|scope| {
            let asking = scope.spawn(|| requests.query_state());
            while requests.queries() == 0 {
                thread::yield_now();
            }
            // It looked when there was no query yet.
            requests.acknowledge(0);
            thread::sleep(Duration::from_millis(20));
            assert!(!asking.is_finished());
            assert!(!requests.wait(Duration::from_secs(60)));
            requests.acknowledge(requests.queries());
        });
        assert!(
            start.elapsed() < VCPU_REPLY_TIMEOUT,
            "a query ends the wait for orders"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_stir_ends_one_wait() {
        let requests = requests();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| requests.wait(Duration::from_secs(60)));
            requests.reset_poll_interval();
            assert!(!waiting.join().unwrap());
        });
        assert!(requests.wait(Duration::from_millis(1)));
    }
}
