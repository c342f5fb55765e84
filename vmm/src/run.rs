//! Runs a machine: reads what it needs, builds it, and builds it anew when the guest reboots.

mod blueprint;
mod error;
mod layout;
mod outputs;
mod record;

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    thread::{self, Scope},
    time::SystemTime,
};

use nix::sys::signal::{SigSet, SigmaskHow};
use pvh_abi::sched::ShutdownReason;
use pvh_kvm::Kvm;

use crate::{
    args::PlatformArgument,
    config::{OnReboot, RunConfig},
    console::{Output, Writer},
    devices::Request,
    events::{self, User},
    exit::complain,
    machine::{Crash, End, Threads},
    platform::{self, Choice, Guest, GuestLog, Platform, Reason},
    timings,
};
use blueprint::{Blueprint, Kernel, Outlets, check_cpus};
use error::host;
use record::Record;

pub(crate) use error::RunError;
pub(crate) use outputs::{check_outputs, open_trace};

/// How a run ended that could begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest switched off.
    PoweredOff,
    /// The guest asked to reboot, and the machine was not to be built anew.
    RebootRequested,
    /// The guest cannot go on.
    Crashed(Box<Crash>),
    /// The guest's domain was shut down, for a reason that is neither to switch off nor to start anew.
    Shutdown(ShutdownReason),
    /// The user ended it at the terminal.
    Quit,
    /// The guest switched off, but what was to be recorded of it is not whole.
    RecordLost,
    /// A signal with this number ended it.
    Signal(i32),
}

/// Runs the machine to its end.
///
/// # Errors
///
/// [`RunError`]; what the guest does is an [`Outcome`].
pub(crate) fn run(config: &RunConfig) -> Result<Outcome, RunError> {
    check_cpus(config.cpus)?;
    if config.platform == PlatformArgument::None {
        check_plain(config, None)?;
    }
    let kvm = timings::step("open KVM", || Kvm::open_at(&config.kvm_device));
    let kvm = match kvm {
        Ok(kvm) => kvm,
        Err(refused) => {
            // What is wrong with the image is told first.
            Kernel::open(config)?;
            return Err(RunError::Kvm(refused));
        }
    };
    thread::scope(|scope| {
        list_cpuid(scope, &kvm);
        run_on(config, &kvm)
    })
}

/// Has KVM list its CPUID leaves while the machine is built: it takes as long as all the rest of KVM's work.
fn list_cpuid<'scope>(scope: &'scope Scope<'scope, '_>, kvm: &'scope Kvm) {
    // No signal is for this thread: it is not told from one that may end the process.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let thread = thread::Builder::new().name("cpuid".to_owned());
    // Without it, or if it comes late, the first vCPU has them listed; that is also where a failure is told.
    let _ = thread.spawn_scoped(scope, || {
        let _ = timings::step("list CPUID", || kvm.supported_cpuid());
    });
    if let Ok(before) = before {
        // A mask that was in force before is one that can be set.
        let _ = before.thread_set_mask();
    }
}

fn run_on(config: &RunConfig, kvm: &Kvm) -> Result<Outcome, RunError> {
    let kernel = timings::step("open kernel", || Kernel::open(config))?;
    let choice = timings::step("choose platform", || choose(config, &kernel, kvm))?;
    if choice.platform == Platform::Plain {
        check_plain(config, choice.reason)?;
    }
    let draw = || Blueprint::draw(config, &kernel, choice.platform, kvm);
    let blueprint = timings::step("plan", draw)?;
    let record = config.record.as_deref().map(Record::begin).transpose()?;
    let outlets = Outlets {
        console: Output::default(),
        log: GuestLog::new(Output::default()),
        recorder: record.as_ref().map(Record::recorder),
    };
    let outcome = run_machines(config, &blueprint, kvm, &outlets, choice.reason);
    let is_whole = record.is_none_or(|record| record.finish());
    match outcome {
        Ok(Outcome::PoweredOff) if !is_whole => Ok(Outcome::RecordLost),
        other => other,
    }
}

/// Runs a machine, and after each reboot another, until the end.
fn run_machines(
    config: &RunConfig,
    blueprint: &Blueprint<'_>,
    kvm: &Kvm,
    outlets: &Outlets,
    mut reason: Option<Reason>,
) -> Result<Outcome, RunError> {
    let mut session = None;
    loop {
        let started = SystemTime::now();
        let machine = timings::step("build", || blueprint.build(kvm, outlets));
        let machine = machine.inspect_err(|_| finish_session(&mut session))?;
        let (user, writers) = match session.take() {
            Some(session) => session,
            None => {
                if let Some(reason) = reason.take() {
                    complain(&reason.to_string());
                }
                let begun = timings::step("console", || begin(outlets));
                begun.map_err(host("the console cannot be set up"))?
            }
        };
        let platform = machine.platform.as_ref();
        let start = || Threads::start(&machine.board, machine.vcpus, platform);
        let threads = timings::step("vCPU threads", start);
        let threads = match threads {
            Ok(threads) => threads,
            Err(source) => {
                finish_session(&mut Some((user, writers)));
                return Err(host("a vCPU thread cannot be started")(source));
            }
        };
        let (end, mut user) =
            events::run(user, &machine.board, platform).map_err(RunError::Events)?;
        drop(threads);
        if matches!(end, End::Crash(_) | End::LostMemory)
            && let Some(changed) = blueprint.changed_file(started)
        {
            complain(&changed.to_string());
        }
        if let (End::Request(Request::Reboot), OnReboot::Rebuild) = (&end, config.on_reboot) {
            session = Some((user, writers));
            continue;
        }
        let patience = match end {
            End::Quit | End::Signal(_) => 4,
            _ => u32::MAX,
        };
        finish_output(patience, &mut user, &writers);
        return outcome(end);
    }
}

/// What writes to standard output, and to standard error what a guest says to its hypervisor.
type Writers = [Writer; 2];

/// Takes what belongs to the user, and starts writing.
fn begin(outlets: &Outlets) -> io::Result<(User, Writers)> {
    // The signals first: threads inherit their mask.
    let user = User::take()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let writers = [
        Writer::start(outlets.console.clone(), File::from(stdout))?,
        Writer::start(outlets.log.output().clone(), File::from(stderr))?,
    ];
    Ok((user, writers))
}

/// Refuses options that a machine without the Xen platform has no use for.
fn check_plain(config: &RunConfig, reason: Option<Reason>) -> Result<(), RunError> {
    let asked = [
        (config.patch_hypercalls, "--patch-hypercalls"),
        (config.record.is_some(), "--record"),
    ];
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, option)) => Err(RunError::NeedsXen { option, reason }),
        None => Ok(()),
    }
}

/// Decides over the platform.
fn choose(config: &RunConfig, kernel: &Kernel, kvm: &Kvm) -> Result<Choice, RunError> {
    let guest = Guest {
        kind: kernel.kind(),
        cmdline: &config.cmdline,
        cpus: config.cpus,
    };
    let choice = platform::choose(config.platform, &guest, kvm.capabilities());
    choice.map_err(|source| RunError::Obstacle {
        kernel: kernel.name().to_owned(),
        source,
    })
}

/// Lets the console's reader have all that the guest printed before it could not be built anew.
fn finish_session(session: &mut Option<(User, Writers)>) {
    if let Some((mut user, writers)) = session.take() {
        finish_output(u32::MAX, &mut user, &writers);
    }
}

/// Waits for the reader of the console: so often, but not against the user's will, whose keys make signals again.
fn finish_output(mut patience: u32, user: &mut User, writers: &Writers) {
    user.leave_terminal();
    for writer in writers {
        writer.drain(|| {
            patience = patience.saturating_sub(1);
            patience == 0 || user.ending_signal().is_some()
        });
    }
}

fn outcome(end: End) -> Result<Outcome, RunError> {
    Ok(match end {
        End::Request(Request::PowerOff) => Outcome::PoweredOff,
        End::Request(Request::Reboot) => Outcome::RebootRequested,
        End::Crash(crash) => Outcome::Crashed(crash),
        End::Shutdown(reason) => Outcome::Shutdown(reason),
        End::Quit => Outcome::Quit,
        End::Signal(number) => Outcome::Signal(number),
        End::Panic => return Err(RunError::Panicked),
        End::LostMemory => return Err(RunError::LostMemory),
    })
}
