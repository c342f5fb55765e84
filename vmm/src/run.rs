//! Runs a machine: reads what it needs, builds it, and builds it anew when the guest reboots.

mod blueprint;
mod error;
mod layout;

use std::{fs::File, io, os::fd::AsFd, time::SystemTime};

use pvh_abi::sched::ShutdownReason;
use pvh_kvm::Kvm;

use crate::{
    config::{OnReboot, RunConfig},
    console::{Output, Writer},
    devices::Request,
    events::{self, User},
    exit::complain,
    machine::{Crash, End, Threads},
    platform::{self, Choice, Guest},
};
use blueprint::{Blueprint, Kernel, check_cpus};
use error::host;

pub(crate) use error::RunError;

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
    let kernel = Kernel::open(config)?;
    let kvm = Kvm::open_at(&config.kvm_device).map_err(RunError::Kvm)?;
    let choice = choose(config, &kernel, &kvm)?;
    let blueprint = Blueprint::draw(config, &kernel, choice.platform, &kvm)?;
    let output = Output::default();
    let log = Output::default();
    let mut reason = choice.reason;
    let mut session = None;
    loop {
        let started = SystemTime::now();
        let machine = blueprint.build(&kvm, &output, &log);
        let machine = machine.inspect_err(|_| finish_session(&mut session))?;
        let (user, writers) = match session.take() {
            Some(session) => session,
            None => {
                if let Some(reason) = reason.take() {
                    complain(&reason.to_string());
                }
                begin(&output, &log).map_err(host("the console cannot be set up"))?
            }
        };
        let platform = machine.platform.as_ref();
        let threads = Threads::start(&machine.board, machine.vcpus, platform);
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
        if matches!(end, End::Crash(_))
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
fn begin(output: &Output, log: &Output) -> io::Result<(User, Writers)> {
    // The signals first: threads inherit their mask.
    let user = User::take()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let writers = [
        Writer::start(output.clone(), File::from(stdout))?,
        Writer::start(log.clone(), File::from(stderr))?,
    ];
    Ok((user, writers))
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
    })
}
