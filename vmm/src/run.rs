//! Runs a guest: reads its files, builds the machine, and builds it again when the guest reboots.

mod advice;
mod blueprint;
mod disks;
mod error;
mod hint;
mod layout;
mod modules;
mod networks;
mod outcome;
mod outputs;
mod record;
mod reset;
mod session;
mod uuid;
mod wreck;

use std::{
    sync::OnceLock,
    thread,
    time::{Instant, SystemTime},
};

use pvh_config::{OnReboot, PlatformArgument, RunConfig, Size};
use pvh_devices::Request;
use pvh_kvm::Kvm;

use crate::{
    console::ConsoleQueue,
    exit::{Printable, complain},
    machine::End,
    outlets::Outlets,
    platform::{self, Choice, Guest, GuestLog, Platform, Reason},
    timings,
};
use blueprint::{Blueprint, Kernel};
use hint::silence_hint;
use record::Record;
use reset::{Reset, Resets, TripleFault};
use session::{Start, Writing, run_machine};

pub(crate) use error::RunError;
pub(crate) use outcome::{HALTED, Outcome, shutdown_line};
pub(crate) use outputs::{check_outputs, open_trace};

/// Runs the machine to its end.
///
/// # Errors
///
/// [`RunError`]; what the guest does is an [`Outcome`].
pub(crate) fn run(config: &RunConfig) -> Result<Outcome, RunError> {
    if config.platform == PlatformArgument::None {
        check_plain(config, None)?;
    }
    let kvm = timings::step("open KVM", || Kvm::open_at(&config.kvm_device));
    let kvm = match kvm {
        Ok(kvm) => kvm,
        Err(refused) => {
            // A fault of the image is reported first.
            Kernel::open(config)?;
            return Err(RunError::Kvm(refused));
        }
    };
    let console = ConsoleQueue::default();
    let log = GuestLog::new(ConsoleQueue::default(), config.has_guest_log);
    thread::scope(|scope| {
        let writing = Writing::start_on_thread(scope, &kvm, &console, &log);
        let outlets = Outlets {
            console: console.clone(),
            log: log.clone(),
            recorder: None,
            gdb: config.gdb.clone(),
            server: OnceLock::new(),
            hint: None,
            on_halt: config.on_halt,
        };
        run_on(config, &kvm, outlets, writing)
    })
}

fn run_on(
    config: &RunConfig,
    kvm: &Kvm,
    mut outlets: Outlets,
    writing: Writing<'_>,
) -> Result<Outcome, RunError> {
    let kernel = timings::step("open kernel", || Kernel::open(config))?;
    let choice = timings::step("choose platform", || choose(config, &kernel, kvm))?;
    if choice.platform == Platform::Plain {
        check_plain(config, choice.reason)?;
    }
    outlets.hint =
        (!config.is_quiet && config.gdb.is_none()).then(|| silence_hint(config, &choice).into());
    let (kernel, boot) = (&kernel, &mut None);
    let blueprint = timings::step("plan", move || {
        Blueprint::draw(config, kernel, choice.platform, kvm, boot)
    })?;
    if config.memory_bytes >= SLOW_MEMORY_BYTES && !config.is_quiet {
        complain(&format!(
            "--memory {}: KVM first makes its tables for this much memory, about a second per TiB",
            Size::of(config.memory_bytes)
        ));
    }
    let record = config.record.as_deref().map(Record::begin).transpose()?;
    outlets.recorder = record.as_ref().map(Record::recorder);
    let machines = Machines {
        config,
        blueprint: &blueprint,
        kvm,
        outlets: &outlets,
    };
    let outcome = machines.run(choice.reason, writing);
    let is_whole = record.is_none_or(|record| record.finish());
    match outcome {
        Ok(Outcome::PoweredOff) if !is_whole => Ok(Outcome::RecordLost),
        other => other,
    }
}

/// Everything that the machines of a run share.
struct Machines<'a> {
    config: &'a RunConfig,
    blueprint: &'a Blueprint<'a>,
    kvm: &'a Kvm,
    outlets: &'a Outlets,
}

impl Machines<'_> {
    /// Runs a machine, and another one after each reboot, until the end.
    fn run(&self, mut reason: Option<Reason>, writing: Writing<'_>) -> Result<Outcome, RunError> {
        let Self {
            config,
            blueprint,
            kvm,
            outlets,
        } = self;
        let mut start = Start::First {
            writing,
            has_input: !config.reads_standard_input(),
        };
        let mut resets = Resets::default();
        loop {
            let started = SystemTime::now();
            let machine = timings::step("build", || blueprint.build(kvm, outlets));
            let machine = match machine {
                Ok(machine) => machine,
                Err(error) => {
                    start.give_up();
                    return Err(error);
                }
            };
            if let Some(reason) = reason.take().filter(|_| !config.is_quiet) {
                complain(&reason.to_string());
            }
            let began = Instant::now();
            let (end, mut session) = run_machine(machine, start, outlets)?;
            let (mut end, is_reboot) = self.judge(end, &mut resets, (started, began));
            let wreck = session.take_wreck();
            let stuck = session.take_stuck_disk();
            if let Some(disk) = stuck.filter(|_| is_reboot) {
                // A late write of the guest before would damage what the next one writes.
                session.finish(u32::MAX);
                return Err(RunError::StuckDisk(disk));
            }
            if is_reboot {
                start = Start::Again(Box::new(session));
                continue;
            }
            if let Some(wreck) = wreck {
                blueprint.examine(&wreck, &mut end, outlets);
            }
            let patience = match end {
                End::Quit | End::Signal(_) => 4,
                _ => u32::MAX,
            };
            session.finish(patience);
            let has_lost_output = session.has_lost_output();
            if matches!(end, End::Signal(_)) {
                session.leave_signals_blocked();
            }
            return Outcome::of(end).map(|outcome| match outcome {
                Outcome::PoweredOff if has_lost_output => Outcome::OutputLost,
                other => other,
            });
        }
    }
}

impl Machines<'_> {
    /// Decides what the end of a machine means, and whether it is a reboot.
    fn judge(&self, end: End, resets: &mut Resets, times: (SystemTime, Instant)) -> (End, bool) {
        let (started, began) = times;
        let is_file_changed = self.report_changed_file(&end, started);
        let End::TripleFault(crash) = end else {
            let is_reboot = matches!(end, End::Request(Request::Reboot))
                && self.config.on_reboot == OnReboot::Rebuild;
            if is_reboot {
                self.report_reboot("the guest reboots");
            }
            return (end, is_reboot);
        };
        let fault = TripleFault {
            has_printed: self.outlets.console.has_printed(),
            ran_for: began.elapsed(),
            is_file_changed,
        };
        match resets.decide(fault, self.config.on_crash, self.config.on_reboot) {
            Reset::Crash => (End::Crash(crash), false),
            Reset::End => (End::TripleFault(crash), false),
            Reset::Reboot => {
                let line = format!("vCPU {} had a triple fault: the guest reboots", crash.vcpu);
                self.report_reboot(&line);
                (End::TripleFault(crash), true)
            }
        }
    }

    /// Reports a reboot. A guest may reboot without end.
    fn report_reboot(&self, line: &str) {
        if !self.config.is_quiet {
            self.outlets.log.say_if_room(line);
        }
    }

    /// Reports a file that was changed under a guest that crashed; returns whether there is one.
    fn report_changed_file(&self, end: &End, started: SystemTime) -> bool {
        let is_crash = matches!(end, End::TripleFault(_) | End::Crash(_) | End::LostMemory);
        let changed = is_crash.then(|| self.blueprint.changed_file(started));
        let Some(changed) = changed.flatten() else {
            return false;
        };
        // Not directly to standard error, which may block: only the event loop and the draining of
        // output watch for signals.
        let line = Printable(&changed).to_string();
        self.outlets.log.say(&line);
        true
    }
}

/// Refuses options that need the Xen platform.
fn check_plain(config: &RunConfig, reason: Option<Reason>) -> Result<(), RunError> {
    match xen_options(config).find(|(is_given, _)| *is_given) {
        Some((_, option)) => Err(RunError::NeedsXen { option, reason }),
        None => Ok(()),
    }
}

/// The options that need the Xen platform, and whether they were given.
fn xen_options(config: &RunConfig) -> impl Iterator<Item = (bool, &'static str)> {
    let options = [
        (config.patch_hypercalls, "--patch-hypercalls"),
        (config.record.is_some(), "--record"),
        (!config.disks.is_empty(), "--disk"),
        (!config.networks.is_empty(), "--net"),
    ];
    options.into_iter()
}

/// Decides on the platform.
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

/// Guest memory for which KVM takes a second or more before anything else happens.
const SLOW_MEMORY_BYTES: u64 = 1 << 40;
