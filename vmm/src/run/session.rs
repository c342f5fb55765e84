//! What belongs to the user rather than to one machine, and the machine that runs with it.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    sync::Arc,
    thread::{self, Scope, ScopedJoinHandle},
    time::Duration,
};

use nix::sys::signal::{SigSet, SigmaskHow};
use pvh_abi::sched::ShutdownReason;
use pvh_kvm::{CopyAhead, Kvm};
use pvh_xen::XenPlatform;

use super::{
    blueprint::Machine,
    error::{RunError, host},
};
use crate::{
    console::{Output, Stream, Writer, is_shared},
    devices::Request,
    events::{self, User},
    machine::{BootVcpu, End, Stopper, Threads},
    outlets::Outlets,
    platform::GuestLog,
    timings,
};

/// What writes to standard output, and to standard error what a guest says to its hypervisor.
type Writers = [Writer; 2];

fn start_writers(console: &Output, log: &GuestLog) -> io::Result<Writers> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let stream = |stream| is_shared().then_some(stream);
    Ok([
        Writer::start(console.clone(), File::from(stdout), stream(Stream::Console))?,
        Writer::start(
            log.output().clone(),
            File::from(stderr),
            stream(Stream::Lines),
        )?,
    ])
}

/// The writers, or how they are to be had.
pub(super) enum Writing<'scope> {
    /// They write.
    Begun(Writers),
    /// Another thread starts them.
    Beside(ScopedJoinHandle<'scope, io::Result<Writers>>),
    /// Nobody starts them.
    Wanted,
}

impl<'scope> Writing<'scope> {
    /// On another thread, while the machine is built: has KVM list its CPUID leaves, which takes as long as all the rest of its
    /// work, and starts the writers.
    pub(super) fn begin_beside(
        scope: &'scope Scope<'scope, '_>,
        kvm: &'scope Kvm,
        console: &'scope Output,
        log: &'scope GuestLog,
    ) -> Self {
        // No signal is for these threads: it is not known yet which are to end the process by themselves.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let thread = thread::Builder::new().name("beside".to_owned());
        let thread = thread.spawn_scoped(scope, || {
            // A new thread begins on the processor of the one that made it, and may keep it off: one that wakes finds an idle one.
            thread::sleep(Duration::from_nanos(1));
            // If it comes late, the first vCPU has them listed; that is also where a failure is told.
            let _ = timings::step("list CPUID", || kvm.supported_cpuid());
            timings::step("console", || start_writers(console, log))
        });
        if let Ok(before) = before {
            // A mask that was in force before is one that can be set.
            let _ = before.thread_set_mask();
        }
        thread.map_or(Self::Wanted, Self::Beside)
    }

    fn finish(self, outlets: &Outlets) -> io::Result<Writers> {
        let begun = match self {
            Self::Begun(writers) => Some(Ok(writers)),
            Self::Beside(thread) => thread.join().ok(),
            Self::Wanted => None,
        };
        begun.unwrap_or_else(|| start_writers(&outlets.console, &outlets.log))
    }
}

/// The user's signals and terminal, and what writes. It outlives a reboot.
pub(super) struct Session {
    user: User,
    writers: Writers,
}

/// The session of the machine before, or what the first one begins with.
pub(super) enum Visit<'scope> {
    /// None yet.
    First {
        /// The writers.
        writing: Writing<'scope>,
        /// The guest gets what comes from standard input.
        has_input: bool,
    },
    /// That of the machine before.
    Again(Box<Session>),
}

impl<'scope> Visit<'scope> {
    /// Takes the signals and the terminal: before there are threads that do not block the ones, and before the guest prints
    /// what the user answers at the other.
    fn begin(self) -> io::Result<(User, Writing<'scope>)> {
        Ok(match self {
            Self::First { writing, has_input } => (User::take(has_input)?, writing),
            Self::Again(session) => (session.user, Writing::Begun(session.writers)),
        })
    }

    /// Lets the console's reader have all that the guest printed before it could not be built anew.
    pub(super) fn give_up(self) {
        if let Self::Again(mut session) = self {
            session.finish(u32::MAX);
        }
    }
}

impl Session {
    /// Has no other signal end the process before it has told what it has to.
    pub(super) fn leave_signals_blocked(self) {
        self.user.leave_signals_blocked();
    }

    /// Waits for the reader of the console: so often, but not against the user's will, whose keys make signals again.
    pub(super) fn finish(&mut self, mut patience: u32) {
        self.user.leave_terminal();
        for writer in &self.writers {
            writer.drain(|| {
                patience = patience.saturating_sub(1);
                patience == 0 || self.user.ending_signal().is_some()
            });
        }
    }
}

/// Ends a domain, which gives out its last words, and says what its end means: what a triple fault does is the domain's to
/// say.
fn end_domain(platform: &XenPlatform, end: End) -> End {
    let End::TripleFault(crash) = end else {
        platform.end(ShutdownReason::CRASH);
        return end;
    };
    let reason = platform.triple_fault_reason();
    platform.end(reason);
    match reason {
        ShutdownReason::REBOOT => End::TripleFault(crash),
        ShutdownReason::POWEROFF => End::Request(Request::PowerOff),
        _ => End::Crash(crash),
    }
}

/// Runs a machine to its end: its first vCPU on this thread, which is the shortest way into the guest, and all else beside it.
///
/// # Errors
///
/// [`RunError`]: the host refuses a thread, the terminal or a descriptor.
pub(super) fn run_machine(
    machine: Machine,
    visit: Visit<'_>,
    outlets: &Outlets,
) -> Result<(End, Session), RunError> {
    let refused = "cannot set up the console";
    let (user, writing) = visit.begin().map_err(host(refused))?;
    let stopper = Stopper::new(&machine.board, &machine.vcpus, machine.platform.as_ref());
    let mut vcpus = machine.vcpus.into_iter();
    let (board, platform) = (machine.board, machine.platform);
    let boot = vcpus.next();
    let boot = boot.map(|vcpu| BootVcpu::new(vcpu, &board, platform.as_ref()));
    let ahead = machine.ahead.map(|pages| Arc::new(CopyAhead::new(pages)));
    let boot = boot.map(|boot| boot.copying(ahead.as_ref()));
    thread::scope(|scope| {
        let beside = || {
            let threads = timings::step("vCPU threads", || Threads::start(stopper, vcpus));
            let writers = writing.finish(outlets).map_err(host(refused))?;
            let mut session = Session { user, writers };
            let mut threads = threads.map_err(|source| {
                session.finish(u32::MAX);
                host("cannot start a vCPU thread")(source)
            })?;
            if let Some(ahead) = ahead {
                // Without it the guest does the same, more slowly.
                let _ = threads.copy_ahead(ahead);
            }
            let ended = events::run(session.user, &board, platform.as_ref(), outlets);
            drop(threads);
            let (end, user) = ended.map_err(RunError::Events)?;
            let end = match &platform {
                Some(platform) => end_domain(platform, end),
                None => end,
            };
            session.user = user;
            Ok((end, session))
        };
        let thread = thread::Builder::new().name("events".to_owned());
        let thread = thread.spawn_scoped(scope, beside);
        let thread = thread.map_err(host("cannot start the thread of the devices"))?;
        if let Some(boot) = boot {
            boot.live();
        }
        // A panic has been printed.
        thread.join().unwrap_or(Err(RunError::Panicked))
    })
}
