//! Every interleaving of a vCPU's thread and those that kick it, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p pvh-kvm --test loom --release`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use core::convert::Infallible;

use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
};

#[path = "../src/vcpu/kick/registration.rs"]
mod registration;

/// What `registration` finds in place of std's.
mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use registration::Registration;

/// A vCPU whose guest never leaves by itself: only a kick makes KVM_RUN return.
struct Vcpu {
    registration: Registration<()>,
    /// `immediate_exit` of its run page.
    flag: AtomicBool,
    /// Whether a signal is pending for its thread.
    signal: AtomicBool,
    /// What others have posted for its thread; they post first, then they kick.
    posted: AtomicU32,
    is_stopping: AtomicBool,
}

impl Vcpu {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            registration: Registration::new(),
            flag: AtomicBool::new(false),
            signal: AtomicBool::new(false),
            posted: AtomicU32::new(0),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// `Vcpu::run`: registers, runs the guest until a kick, and acknowledges that.
    fn run(&self) {
        self.registration.enter(());
        // A signal that came before KVM_RUN has run its handler, and nothing is left of it.
        self.signal.swap(false, SeqCst);
        if !self.flag.load(SeqCst) {
            while !self.signal.swap(false, SeqCst) {
                thread::yield_now();
            }
        }
        self.registration.leave();
        // A swap, as in `KickTarget`: each sees what the other wrote before its own.
        self.flag.swap(false, SeqCst);
    }

    fn kick(&self) {
        let sent: Result<(), Infallible> = self.registration.kick(
            || {
                self.flag.swap(true, SeqCst);
            },
            |()| {
                self.signal.swap(true, SeqCst);
                Ok(())
            },
        );
        sent.unwrap();
    }

    fn post(&self) {
        self.posted.fetch_add(1, SeqCst);
        self.kick();
    }

    fn stop(&self) {
        self.is_stopping.store(true, SeqCst);
        self.kick();
    }

    /// The loop of its thread; returns how many posts it has served.
    fn serve_until_stopped(&self) -> u32 {
        let mut served = 0;
        while !self.is_stopping.load(SeqCst) {
            self.run();
            served += self.posted.swap(0, SeqCst);
        }
        served
    }
}

/// Every interleaving with at most three switches that a thread did not ask for.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

/// If a kick were lost, the vCPU's thread would wait for ever, which loom reports.
#[test]
fn two_kickers_at_once_are_both_heard() {
    model(|| {
        let vcpu = Vcpu::new();
        let kickers = [(); 2].map(|()| {
            let vcpu = Arc::clone(&vcpu);
            thread::spawn(move || vcpu.post())
        });
        let mut served = 0;
        while served < 2 {
            vcpu.run();
            served += vcpu.posted.swap(0, SeqCst);
        }
        kickers
            .into_iter()
            .for_each(|kicker| kicker.join().unwrap());
    });
}

#[test]
fn a_stop_is_heard_whatever_came_before_it() {
    model(|| {
        let vcpu = Vcpu::new();
        let running = thread::spawn({
            let vcpu = Arc::clone(&vcpu);
            move || vcpu.serve_until_stopped()
        });
        vcpu.post();
        vcpu.stop();
        let served = running.join().unwrap();
        let left = vcpu.posted.load(SeqCst);
        assert_eq!(
            served + left,
            1,
            "a post is served once, or left at the end"
        );
    });
}

#[test]
fn a_machine_that_stops_before_its_vcpu_starts_does_not_hang() {
    model(|| {
        let vcpu = Vcpu::new();
        let stopper = thread::spawn({
            let vcpu = Arc::clone(&vcpu);
            move || vcpu.stop()
        });
        assert_eq!(vcpu.serve_until_stopped(), 0);
        stopper.join().unwrap();
    });
}
