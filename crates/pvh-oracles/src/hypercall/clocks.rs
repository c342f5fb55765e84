//! How long each vCPU has been in each state, and when its timers are due, by the rules of vcpu.h
//! and of Xen's scheduler.

use pvh_domain::{Effect, Sleep};

use super::world::{COUNT, START_NS};

/// The states of `vcpu_runstate_info`.
const RUNNING: usize = 0;
const RUNNABLE: usize = 1;
const BLOCKED: usize = 2;
const OFFLINE: usize = 3;

/// The clocks of all vCPUs.
#[derive(Debug)]
pub(super) struct Clocks {
    vcpus: [Clock; COUNT as usize],
    /// A soft reset may come at any shutdown: it ends sleeps, and nobody is told.
    may_reset: bool,
}

/// What is known of one vCPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// `None`: the state is not known any more.
    pub(super) spent: Option<Spent>,
    /// Whether it is asleep; `None`: not known.
    is_asleep: Option<bool>,
    /// When its poll ends by time, if that is known.
    poll_until_ns: Option<u64>,
    singleshot: Timer,
    /// The period of its periodic timer; `None`: not known.
    period_ns: Option<Option<u64>>,
}

/// The state of a vCPU, since when, and the time in each state before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    state: usize,
    since_ns: u64,
    before_ns: [u64; 4],
}

/// A one-shot timer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Timer {
    Unknown,
    Off,
    At(u64),
}

impl Spent {
    fn change(&mut self, state: usize, now_ns: u64) {
        if self.state != state {
            self.before_ns = self.at(now_ns);
            (self.state, self.since_ns) = (state, now_ns);
        }
    }

    /// The times up to now.
    fn at(&self, now_ns: u64) -> [u64; 4] {
        let mut times_ns = self.before_ns;
        times_ns[self.state] += now_ns - self.since_ns;
        times_ns
    }

    /// State, time of entry, and the time in each state, as the guest is to see them.
    pub(super) fn seen(&self, now_ns: u64) -> (u64, u64, [u64; 4]) {
        (self.state as u64, self.since_ns, self.at(now_ns))
    }
}

impl Clock {
    /// A vCPU that is down stays offline, whatever happens to it but a start.
    fn change(&mut self, state: usize, now_ns: u64) {
        if let Some(spent) = &mut self.spent
            && spent.state != OFFLINE
        {
            spent.change(state, now_ns);
        }
    }

    fn start(&mut self, state: Option<usize>, now_ns: u64) {
        match (&mut self.spent, state) {
            (Some(spent), Some(state)) => spent.change(state, now_ns),
            (spent, _) => *spent = None,
        }
    }

    const fn wake(&mut self) {
        (self.is_asleep, self.poll_until_ns) = (Some(false), None);
    }
}

impl Clocks {
    /// The first vCPU could run since the start, and the others are down.
    pub(super) fn new() -> Self {
        let clock = |state| Clock {
            spent: Some(Spent {
                state,
                since_ns: START_NS,
                before_ns: [0; 4],
            }),
            is_asleep: Some(false),
            poll_until_ns: None,
            singleshot: Timer::Off,
            period_ns: Some(None),
        };
        Self {
            vcpus: [clock(RUNNABLE), clock(OFFLINE), clock(OFFLINE)],
            may_reset: false,
        }
    }

    pub(super) fn of(&self, vcpu: u32) -> Option<&Clock> {
        self.vcpus.get(vcpu as usize)
    }

    fn with(&mut self, vcpu: u32, act: impl FnOnce(&mut Clock)) {
        if let Some(clock) = self.vcpus.get_mut(vcpu as usize) {
            act(clock);
        }
    }

    /// A vCPU is in the guest, or calls.
    pub(super) fn runs(&mut self, vcpu: u32, now_ns: u64) {
        self.with(vcpu, |clock| {
            clock.wake();
            clock.change(RUNNING, now_ns);
        });
    }

    /// A call of a vCPU goes on for longer than the oracle looks.
    pub(super) fn lost(&mut self, vcpu: u32) {
        self.with(vcpu, |clock| clock.spent = None);
    }

    /// A call is over, and its vCPU sleeps now.
    pub(super) fn sleeps(&mut self, vcpu: u32, _: Sleep, now_ns: u64) {
        let is_asleep = (!self.may_reset).then_some(true);
        self.with(vcpu, |clock| {
            clock.is_asleep = is_asleep;
            clock.change(BLOCKED, now_ns);
        });
    }

    /// The sleep that began just now is a poll that ends at this time.
    pub(super) fn polls_until(&mut self, vcpu: u32, until_ns: u64) {
        self.with(vcpu, |clock| {
            clock.poll_until_ns = (clock.is_asleep == Some(true)).then_some(until_ns);
        });
    }

    /// INIT came: the vCPU is in no call and in no sleep any more.
    pub(super) fn init(&mut self, vcpu: u32) {
        self.with(vcpu, Clock::wake);
    }

    /// A vCPU that was down was found running.
    pub(super) fn found_running(&mut self, vcpu: u32, now_ns: u64) {
        self.with(vcpu, |clock| {
            clock.wake();
            clock.start(Some(RUNNING), now_ns);
        });
    }

    pub(super) fn effect(&mut self, effect: &Effect, now_ns: u64) {
        match *effect {
            Effect::Wake(vcpu) => self.with(vcpu, |clock| {
                clock.wake();
                clock.change(RUNNABLE, now_ns);
            }),
            // One that went down in its sleep is still asleep.
            Effect::Start(vcpu) | Effect::Resume(vcpu) => self.with(vcpu, |clock| {
                let state = clock
                    .is_asleep
                    .map(|is_asleep| if is_asleep { BLOCKED } else { RUNNABLE });
                clock.start(state, now_ns);
            }),
            Effect::Stop(vcpu) => self.with(vcpu, |clock| clock.change(OFFLINE, now_ns)),
            _ => {}
        }
    }

    /// A shutdown may be a soft reset, now or later.
    pub(super) fn may_reset(&mut self) {
        self.may_reset = true;
        for clock in &mut self.vcpus {
            clock.is_asleep = clock.is_asleep.filter(|is_asleep| !is_asleep);
            clock.poll_until_ns = None;
        }
    }

    /// A call that the oracle does not follow may have set timers.
    pub(super) fn forget_timers(&mut self) {
        for clock in &mut self.vcpus {
            (clock.singleshot, clock.period_ns) = (Timer::Unknown, None);
            clock.poll_until_ns = None;
        }
    }
}

/// Timers.
impl Clocks {
    /// The one-shot timer was set; one whose time has come fires at once.
    pub(super) fn set(&mut self, vcpu: u32, at_ns: u64, now_ns: u64) {
        self.with(vcpu, |clock| {
            clock.singleshot = match at_ns > now_ns {
                true => Timer::At(at_ns),
                false => Timer::Off,
            };
        });
    }

    pub(super) fn stop(&mut self, vcpu: u32) {
        self.with(vcpu, |clock| clock.singleshot = Timer::Off);
    }

    pub(super) fn set_period(&mut self, vcpu: u32, period_ns: Option<u64>) {
        self.with(vcpu, |clock| clock.period_ns = Some(period_ns));
    }

    /// Whether a tick now has to raise the timer's event of a vCPU; `None`: it may.
    pub(super) fn has_to_fire(&self, vcpu: u32, now_ns: u64) -> Option<bool> {
        let clock = self.of(vcpu)?;
        match clock.singleshot {
            Timer::Unknown => None,
            Timer::At(due_ns) if due_ns <= now_ns => Some(true),
            Timer::Off | Timer::At(_) => (clock.period_ns == Some(None)).then_some(false),
        }
    }

    /// A tick has served all that was due.
    pub(super) fn tick(&mut self, now_ns: u64) {
        for clock in &mut self.vcpus {
            if let Timer::At(due_ns) = clock.singleshot
                && due_ns <= now_ns
            {
                clock.singleshot = Timer::Off;
            }
            let due_ns = clock.poll_until_ns;
            assert!(
                due_ns.is_none_or(|due_ns| due_ns > now_ns),
                "a poll goes on after its end"
            );
        }
    }

    /// The time by which the domain has to be called, at the latest.
    pub(super) fn latest_ns(&self, now_ns: u64) -> Option<u64> {
        let of = |clock: &Clock| {
            let singleshot = match clock.singleshot {
                Timer::At(due_ns) => Some(due_ns),
                Timer::Unknown | Timer::Off => None,
            };
            // It does not run while its vCPU sleeps or is down.
            let is_running = clock.spent.is_some_and(|spent| spent.state < BLOCKED);
            let period = clock.period_ns.flatten().filter(|_| is_running);
            let periodic = period.map(|period_ns| now_ns + period_ns);
            [singleshot, clock.poll_until_ns, periodic]
        };
        self.vcpus.iter().flat_map(of).flatten().min()
    }
}
