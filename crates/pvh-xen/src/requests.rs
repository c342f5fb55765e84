//! The request mailbox of one vCPU: what other threads post for the vCPU's thread.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pvh_kvm::Kicker;

/// Requests for one vCPU's thread, and whether it can be asked for its state. A request is posted
/// first, then the thread is kicked out of the guest, so no request is missed.
#[derive(Debug)]
pub(crate) struct VcpuRequests {
    kicker: Kicker,
    pending: Mutex<Requests>,
    changed: Condvar,
    /// The thread is in the guest, about to enter it, or parked: it replies to state queries. It
    /// does not while it serves an exit.
    is_inside: AtomicBool,
    /// The number of state queries so far.
    query_count: AtomicU64,
    /// The last query that the thread has acknowledged.
    acknowledged_count: AtomicU64,
    /// The poll interval of a parked thread is to be reset.
    is_poll_reset: AtomicBool,
    /// The thread has not left the guest since the last check.
    is_silent: AtomicBool,
    /// The machine is stopping: nobody waits for a reply.
    is_stopped: AtomicBool,
}

/// What a vCPU's thread is to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Requests {
    /// Ask the domain for orders.
    pub(crate) orders: bool,
    /// Wake from sleep.
    pub(crate) wake: bool,
    /// Inject an NMI.
    pub(crate) nmi: bool,
    /// Flush the TLB.
    pub(crate) flush: bool,
    /// Inject this vector, the global one.
    pub(crate) inject: Option<u8>,
    /// The retry of the global vector, a level: it stays until the guest clears its upcall flag.
    level: Option<Retry>,
    /// The delay of the last retry, if the vector could not be injected.
    level_delay: Duration,
    /// The retry of the vCPU's own vector, an edge that its local APIC has not accepted yet.
    edge: Option<Retry>,
}

/// An upcall to be retried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Retry {
    vector: u8,
    at: Instant,
    /// How long it waited last.
    delay: Duration,
}

/// An upcall whose retry is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// The global vector: inject it again if the upcall flag is still set.
    Level(u8),
    /// The vCPU's own vector: send it again if the upcall flag is still set.
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
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Posts a request and kicks the vCPU.
    pub(crate) fn post(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.lock());
        self.changed.notify_all();
        self.kick();
    }

    /// Makes the vCPU leave the guest, now or as soon as it enters it.
    pub(crate) fn kick(&self) {
        // If the host refuses the signal, the vCPU stops at its next exit.
        let _ = self.kicker.kick();
    }

    /// Takes the posted requests; retries stay.
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

    /// Takes the request to ask for orders; other requests stay.
    pub(crate) fn take_orders(&self) -> bool {
        std::mem::take(&mut self.lock().orders)
    }

    /// Removes a request to wake: the vCPU begins a new sleep.
    pub(crate) fn forget_wake(&self) {
        self.lock().wake = false;
    }

    /// Waits at most `limit` for orders, a state query, or a reset of the poll interval; returns
    /// `true` if none came.
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

    /// Resets the INIT poll interval of a parked vCPU thread.
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

    /// Kicks a thread that has not left the guest since the last check. Its vCPU may have halted
    /// for good, which KVM does not report; if it was the last one, the domain is over.
    pub(crate) fn kick_if_silent(&self) {
        if self.is_silent.swap(true, Ordering::Relaxed) && self.is_inside.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    /// The thread serves an exit, and has reported the state it found.
    pub(crate) fn leave_guest(&self) {
        self.is_inside.store(false, Ordering::SeqCst);
        self.acknowledge(self.queries());
    }

    /// Returns the number of the last state query. The thread reads it before it looks at its vCPU,
    /// and acknowledges it afterwards.
    pub(crate) fn queries(&self) -> u64 {
        self.query_count.load(Ordering::SeqCst)
    }

    /// Acknowledges state queries up to this number.
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

    /// Asks a thread that is in the guest or parked to report its vCPU's state, and waits for the
    /// reply, at most [`VCPU_REPLY_TIMEOUT`].
    pub(crate) fn query_state(&self) {
        query_states([self]);
    }

    /// Asks for the vCPU's state; returns the number of the query if there will be a reply.
    fn begin_query(&self) -> Option<u64> {
        let pending = self.lock();
        let before = self.query_count.fetch_add(1, Ordering::SeqCst);
        let is_available = self.is_inside.load(Ordering::SeqCst) && !self.is_stopped();
        drop(pending);
        if !is_available {
            return None;
        }
        self.kick();
        self.changed.notify_all();
        Some(before.wrapping_add(1))
    }

    /// Waits until the thread has replied, has left the guest for another reason, or the machine is
    /// stopping.
    fn await_reply(&self, query: u64, deadline: Instant) {
        let limit = deadline.saturating_duration_since(Instant::now());
        let is_open = |_: &mut Requests| {
            self.is_inside.load(Ordering::SeqCst)
                && self.acknowledged_count.load(Ordering::SeqCst) < query
                && !self.is_stopped()
        };
        let pending = self.lock();
        drop(self.changed.wait_timeout_while(pending, limit, is_open));
    }

    /// Ends all waits for this vCPU's thread, and those of the thread itself, now and later: the
    /// machine is stopping.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.reset_poll_interval();
        self.kick();
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Schedules the next look at the global vector, soon if it could not be injected; returns
    /// when.
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

    /// Whether a retry of the global vector is scheduled.
    pub(crate) fn has_level_retry(&self) -> bool {
        self.lock().level.is_some()
    }

    /// Schedules a retry of the vCPU's own vector, later each time; returns when.
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

    /// Cancels the retry of the vCPU's own vector: the local APIC has accepted it.
    pub(crate) fn cancel_edge_retry(&self) {
        self.lock().edge = None;
    }

    /// Takes the upcalls whose retry is due; returns them and the next retry.
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

    /// Cancels the retry of the vCPU's own vector if it is due: the flag is clear. A retry that was
    /// scheduled meanwhile stays.
    pub(crate) fn cancel_due_edge_retry(&self) {
        let now = Instant::now();
        self.lock().edge.take_if(|retry| retry.at <= now);
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks several threads for their vCPUs' state at the same time, and waits for all replies
/// together, at most [`VCPU_REPLY_TIMEOUT`].
pub(crate) fn query_states<'a>(mailboxes: impl IntoIterator<Item = &'a VcpuRequests>) {
    let now = Instant::now();
    let deadline = now.checked_add(VCPU_REPLY_TIMEOUT).unwrap_or(now);
    let asked = mailboxes.into_iter();
    let asked: Vec<_> = asked
        .filter_map(|mailbox| Some((mailbox, mailbox.begin_query()?)))
        .collect();
    for (mailbox, query) in asked {
        mailbox.await_reply(query, deadline);
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

/// The first retry of the global vector: a guest keeps interrupts off for microseconds as a rule.
const MIN_LEVEL_RETRY: Duration = Duration::from_micros(100);
/// The longest delay of the global vector: how often a guest that leaves its flag set is
/// interrupted again.
const MAX_LEVEL_RETRY: Duration = Duration::from_millis(1);
const MIN_EDGE_RETRY: Duration = Duration::from_millis(1);
/// The longest delay of a vCPU's own vector; the vCPU may not be started yet.
const MAX_EDGE_RETRY: Duration = Duration::from_millis(16);
/// How long state queries wait, whether for one vCPU or for all. A thread leaves the guest within
/// microseconds, on a busy host within milliseconds.
const VCPU_REPLY_TIMEOUT: Duration = Duration::from_millis(200);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use pvh_kvm::{GuestRam, Kvm, Vm, VmConfig};
    use std::{sync::Arc, thread};

    use super::*;

    /// The mailbox of a vCPU that does not run.
    fn requests() -> VcpuRequests {
        let ram = Arc::new(GuestRam::new(1 << 20).unwrap());
        let vm = Vm::new(&Kvm::open().unwrap(), &VmConfig::new(1), ram).unwrap();
        VcpuRequests::new(vm.create_vcpu(0).unwrap().kicker())
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn requests_are_taken_once_and_retries_stay() {
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
    fn a_global_vector_is_retried_with_growing_delay() {
        let requests = requests();
        let mut delays = Vec::new();
        for _ in 0..6 {
            let start = Instant::now();
            let at = requests.schedule_level_retry(0xF3, false);
            delays.push(at.saturating_duration_since(start));
            assert_eq!(
                requests.due(at).0,
                [Due::Level(0xF3)],
                "a retry that is due is removed"
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
    fn an_edge_is_retried_until_accepted_or_cancelled() {
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
    fn a_thread_that_serves_an_exit_is_not_queried() {
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
    fn many_threads_that_do_not_reply_cost_one_timeout() {
        let mailboxes = [requests(), requests(), requests()];
        mailboxes.iter().for_each(VcpuRequests::enter);
        let start = Instant::now();
        query_states(&mailboxes);
        assert!((VCPU_REPLY_TIMEOUT..VCPU_REPLY_TIMEOUT * 2).contains(&start.elapsed()));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_stop_ends_queries_now_and_later() {
        let requests = requests();
        requests.enter();
        let start = Instant::now();
        thread::scope(|scope| {
            let asking = scope.spawn(|| requests.query_state());
            while requests.queries() == 0 {
                thread::yield_now();
            }
            requests.stop();
            asking.join().unwrap();
        });
        (0..100).for_each(|_| requests.query_state());
        assert!(start.elapsed() < VCPU_REPLY_TIMEOUT);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_look_before_the_query_is_no_reply() {
        let requests = requests();
        requests.enter();
        let start = Instant::now();
        assert!(requests.wait(Duration::from_millis(1)));
        thread::scope(|scope| {
            let asking = scope.spawn(|| requests.query_state());
            while requests.queries() == 0 {
                thread::yield_now();
            }
            // It looked at its vCPU before the query came.
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
    fn a_reset_of_the_poll_interval_ends_one_wait() {
        let requests = requests();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| requests.wait(Duration::from_secs(60)));
            requests.reset_poll_interval();
            assert!(!waiting.join().unwrap());
        });
        assert!(requests.wait(Duration::from_millis(1)));
    }
}
