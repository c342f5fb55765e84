//! Runs a machine: reads what it needs, builds it, and builds it anew when the guest reboots.

mod blueprint;
mod error;

use std::{io, os::fd::AsFd, time::SystemTime};

use pvh_kvm::Kvm;

use crate::{
    config::{OnReboot, RunConfig},
    console::{Output, Writer},
    devices::Request,
    events::{self, User},
    exit::complain,
    machine::{Crash, End, Threads},
};
use blueprint::{Blueprint, Kernel, apic_ids};
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
    let apic_ids = apic_ids(config)?;
    let kernel = Kernel::open(config)?;
    let kvm = Kvm::open_at(&config.kvm_device).map_err(RunError::Kvm)?;
    let blueprint = Blueprint::draw(config, &kernel, &apic_ids, &kvm)?;
    let output = Output::default();
    let mut session = None;
    loop {
        let started = SystemTime::now();
        let machine = blueprint.build(&kvm, &output);
        let machine = machine.inspect_err(|_| finish_session(&mut session))?;
        let (user, writer) = match session.take() {
            Some(session) => session,
            None => begin(&output).map_err(host("the console cannot be set up"))?,
        };
        let threads = Threads::start(&machine.board, machine.vcpus);
        let threads = match threads {
            Ok(threads) => threads,
            Err(source) => {
                finish_session(&mut Some((user, writer)));
                return Err(host("a vCPU thread cannot be started")(source));
            }
        };
        let (end, mut user) = events::run(user, &machine.board).map_err(RunError::Events)?;
        drop(threads);
        if matches!(end, End::Crash(_))
            && let Some(changed) = blueprint.changed_file(started)
        {
            complain(&changed.to_string());
        }
        if let (End::Request(Request::Reboot), OnReboot::Rebuild) = (&end, config.on_reboot) {
            session = Some((user, writer));
            continue;
        }
        let patience = match end {
            End::Quit | End::Signal(_) => 4,
            _ => u32::MAX,
        };
        finish_output(patience, &mut user, &writer);
        return outcome(end);
    }
}

/// Takes what belongs to the user, and starts writing to standard output.
fn begin(output: &Output) -> io::Result<(User, Writer)> {
    // The signals first: threads inherit their mask.
    let user = User::take()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let writer = Writer::start(output.clone(), std::fs::File::from(stdout))?;
    Ok((user, writer))
}

/// Lets the console's reader have all that the guest printed before it could not be built anew.
fn finish_session(session: &mut Option<(User, Writer)>) {
    if let Some((mut user, writer)) = session.take() {
        finish_output(u32::MAX, &mut user, &writer);
    }
}

/// Waits for the reader of the console: so often, but not against the user's will, whose keys make signals again.
fn finish_output(mut patience: u32, user: &mut User, writer: &Writer) {
    user.leave_terminal();
    writer.drain(|| {
        patience = patience.saturating_sub(1);
        patience == 0 || user.ending_signal().is_some()
    });
}

fn outcome(end: End) -> Result<Outcome, RunError> {
    Ok(match end {
        End::Request(Request::PowerOff) => Outcome::PoweredOff,
        End::Request(Request::Reboot) => Outcome::RebootRequested,
        End::Crash(crash) => Outcome::Crashed(crash),
        End::Quit => Outcome::Quit,
        End::Signal(number) => Outcome::Signal(number),
        End::Panic => return Err(RunError::Panicked),
    })
}
