//! What other threads leave for the thread of one vCPU.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pvh_kvm::Kicker;

/// Notes for a vCPU's thread, and where it is. A note is left first, then the thread is kicked out of the guest, so
/// none is overlooked.
#[derive(Debug)]
pub(crate) struct Desk {
    kicker: Kicker,
    notes: Mutex<Notes>,
    changed: Condvar,
    /// The thread is in the guest, about to be, or stays out of it by orders: it answers who asks. It does not while it serves
    /// an exit of its own.
    is_inside: AtomicBool,
    /// How often somebody has asked what has become of the vCPU.
    asked: AtomicU64,
    /// As many of these are answered.
    answered: AtomicU64,
    /// Something was done that may go before an INIT.
    is_stirred: AtomicBool,
    /// The thread has been in the guest since it was last looked at.
    is_silent: AtomicBool,
}

/// What a vCPU's thread is to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Notes {
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

impl Desk {
    pub(crate) fn new(kicker: Kicker) -> Self {
        Self {
            kicker,
            notes: Mutex::new(Notes::default()),
            changed: Condvar::new(),
            is_inside: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_stirred: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Leaves a note and has it looked at.
    pub(crate) fn leave_note(&self, change: impl FnOnce(&mut Notes)) {
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
    pub(crate) fn take(&self) -> Notes {
        let mut notes = self.lock();
        let taken = *notes;
        *notes = Notes {
            level: taken.level,
            level_delay: taken.level_delay,
            edge: taken.edge,
            ..Notes::default()
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

    /// Waits for orders, a question or a stir, at most so long; tells whether it was in vain.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let notes = self.lock();
        let is_quiet = |notes: &Notes| !notes.orders && !self.is_asked();
        let idle = |notes: &mut Notes| is_quiet(notes) && !self.is_stirred.load(Ordering::SeqCst);
        let waited = self.changed.wait_timeout_while(notes, limit, idle);
        let (notes, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let was_stirred = self.is_stirred.swap(false, Ordering::SeqCst);
        is_quiet(&notes) && !was_stirred
    }

    /// Has a thread that stays out of the guest look for INIT more often again.
    pub(crate) fn stir(&self) {
        self.is_stirred.store(true, Ordering::SeqCst);
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
    pub(crate) fn nudge_if_silent(&self) {
        if self.is_silent.swap(true, Ordering::Relaxed) && self.is_inside.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    /// The thread serves an exit of its own, after it has told what it found.
    pub(crate) fn come_out(&self) {
        self.is_inside.store(false, Ordering::SeqCst);
        self.answer(self.questions());
    }

    /// How many questions there are: to be taken before the thread looks at its vCPU, and answered after it has.
    pub(crate) fn questions(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Tells whoever asked so far that what was found is known.
    pub(crate) fn answer(&self, questions: u64) {
        if self.answered.swap(questions, Ordering::SeqCst) != questions {
            // Under the lock, so that nobody goes to sleep between looking and waiting.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn is_asked(&self) -> bool {
        self.questions() != self.answered.load(Ordering::SeqCst)
    }

    /// Asks a thread that is in the guest, or stays out of it by orders, to look at its vCPU, and waits until it has; gives up
    /// on one that does not.
    pub(crate) fn ask(&self) {
        let notes = self.lock();
        let question = self.asked.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        if !self.is_inside.load(Ordering::SeqCst) {
            return;
        }
        self.kick();
        self.changed.notify_all();
        let is_open = |_: &mut Notes| {
            self.is_inside.load(Ordering::SeqCst) && self.answered.load(Ordering::SeqCst) < question
        };
        let waited = self
            .changed
            .wait_timeout_while(notes, AN_ANSWER_TAKES, is_open);
        drop(waited);
    }

    /// Notes when the shared vector is to be looked at again: soon, if it could not be injected.
    pub(crate) fn watch_level(&self, vector: u8, was_injected: bool) -> Instant {
        let mut notes = self.lock();
        let waited = notes.level_delay.saturating_mul(2);
        let (delay, level_delay) = if was_injected {
            (LONGEST_LEVEL, Duration::ZERO)
        } else {
            let delay = waited.clamp(SHORTEST, LONGEST_LEVEL);
            (delay, delay)
        };
        notes.level_delay = level_delay;
        let retry = Retry::after(vector, delay);
        notes.level = Some(retry);
        retry.at
    }

    /// Whether the shared vector is going to be looked at again.
    pub(crate) fn watches_level(&self) -> bool {
        self.lock().level.is_some()
    }

    /// Notes that the vCPU's own vector was not taken; says when it is to be tried again.
    pub(crate) fn watch_edge(&self, vector: u8) -> Instant {
        let mut notes = self.lock();
        let waited = notes.edge.map_or(Duration::ZERO, |before| before.delay);
        let delay = waited.saturating_mul(2).clamp(SHORTEST_EDGE, LONGEST_EDGE);
        let retry = Retry::after(vector, delay);
        notes.edge = Some(retry);
        retry.at
    }

    /// Forgets an edge: the local APIC has taken it.
    pub(crate) fn forget_edge(&self) {
        self.lock().edge = None;
    }

    /// Takes the upcalls whose time has come, and tells when the next one's will have.
    pub(crate) fn due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut notes = self.lock();
        let mut due = Vec::new();
        if let Some(retry) = notes.level.take_if(|retry| retry.at <= now) {
            due.push(Due::Level(retry.vector));
        }
        if let Some(retry) = notes.edge.filter(|retry| retry.at <= now) {
            due.push(Due::Edge(retry.vector));
        }
        let rest = [notes.level, notes.edge.filter(|retry| retry.at > now)];
        let next = rest.into_iter().flatten().map(|retry| retry.at).min();
        (due, next)
    }

    /// Forgets an edge that is due, for there is nothing to tell any more; one that came meanwhile stays.
    pub(crate) fn forget_due_edge(&self) {
        let now = Instant::now();
        self.lock().edge.take_if(|retry| retry.at <= now);
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
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
const SHORTEST: Duration = Duration::from_micros(100);
/// A flag that the guest leaves set makes it be interrupted again so often.
const LONGEST_LEVEL: Duration = Duration::from_millis(1);
const SHORTEST_EDGE: Duration = Duration::from_millis(1);
/// A vCPU that is not started yet can be waited for longer.
const LONGEST_EDGE: Duration = Duration::from_millis(16);
/// A thread comes out of the guest within microseconds, on a busy host within milliseconds.
const AN_ANSWER_TAKES: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use pvh_kvm::{GuestRam, Kvm, Vm, VmConfig};
    use std::{sync::Arc, thread};

    use super::*;

    /// The desk of a vCPU that nobody runs.
    fn desk() -> Desk {
        let ram = Arc::new(GuestRam::new(1 << 20).unwrap());
        let vm = Vm::new(&Kvm::open().unwrap(), &VmConfig::new(1), ram).unwrap();
        Desk::new(vm.create_vcpu(0).unwrap().kicker())
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_note_is_taken_once_and_what_is_watched_stays() {
        let desk = desk();
        desk.leave_note(|notes| notes.wake = true);
        desk.watch_edge(0xF3);
        assert!(desk.take().wake);
        assert!(!desk.take().wake);
        thread::sleep(SHORTEST_EDGE);
        assert_eq!(desk.due(Instant::now()).0, [Due::Edge(0xF3)]);
        desk.leave_note(|notes| notes.orders = true);
        assert!(desk.take_orders() && !desk.take_orders());
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_cannot_be_injected_is_tried_more_and_more_slowly() {
        let desk = desk();
        let mut delays = Vec::new();
        for _ in 0..6 {
            let start = Instant::now();
            let at = desk.watch_level(0xF3, false);
            delays.push(at.saturating_duration_since(start));
            assert_eq!(
                desk.due(at).0,
                [Due::Level(0xF3)],
                "whoever is due is off the desk"
            );
        }
        assert!(
            delays[0] < delays[3] && delays[5] >= LONGEST_LEVEL,
            "{delays:?}"
        );
        desk.watch_level(0xF3, true);
        assert!(desk.watches_level());
        let start = Instant::now();
        let at = desk.watch_level(0xF3, false);
        assert!(
            at.saturating_duration_since(start) < LONGEST_LEVEL,
            "anew after one that went in"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_edge_is_tried_until_it_is_taken_or_there_is_nothing_to_tell() {
        let desk = desk();
        let first = desk.watch_edge(0xF3);
        let second = desk.watch_edge(0xF3);
        assert!(second > first, "more slowly");
        desk.forget_due_edge();
        assert_eq!(
            desk.due(Instant::now()).1,
            Some(second),
            "it is not due yet"
        );
        desk.forget_edge();
        assert_eq!(desk.due(second), (Vec::new(), None));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_thread_that_serves_an_exit_is_not_waited_for() {
        let desk = desk();
        let start = Instant::now();
        desk.ask();
        assert!(start.elapsed() < AN_ANSWER_TAKES);
        desk.enter();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                desk.come_out();
            });
            desk.ask();
        });
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn who_looked_before_it_was_asked_has_not_answered() {
        let desk = desk();
        desk.enter();
        let start = Instant::now();
        assert!(desk.wait(Duration::from_millis(1)));
        thread::scope(|scope| {
            let asking = scope.spawn(|| desk.ask());
            while desk.questions() == 0 {
                thread::yield_now();
            }
            // It looked when there was no question yet.
            desk.answer(0);
            thread::sleep(Duration::from_millis(20));
            assert!(!asking.is_finished());
            assert!(!desk.wait(Duration::from_secs(60)));
            desk.answer(desk.questions());
        });
        assert!(
            start.elapsed() < AN_ANSWER_TAKES,
            "a question ends the wait for orders"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_stir_ends_one_wait() {
        let desk = desk();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| desk.wait(Duration::from_secs(60)));
            desk.stir();
            assert!(!waiting.join().unwrap());
        });
        assert!(desk.wait(Duration::from_millis(1)));
    }
}
