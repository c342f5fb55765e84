//! Runs a guest: reads its files, builds the machine, and builds it again when the guest reboots.

mod advice;
mod blueprint;
mod disks;
mod error;
mod hint;
mod hypercall_log;
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
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Instant, SystemTime},
};

use pvh_config::{OnReboot, PlatformArgument, RunConfig, Size};
use pvh_devices::Request;
use pvh_kvm::Kvm;
use pvh_terminal::{ConsoleQueue, GuestLog, Printable};

use crate::{
    events::User,
    exit::complain,
    machine::End,
    outlets::Outlets,
    platform::{self, Choice, Guest, Platform, Reason},
    sandbox, signals,
    threads::{self, Role},
};
pub(crate) use advice::LOG_NAMES;
use blueprint::{Blueprint, Kernel, Machine};
use error::host;
use hint::silence_hint;
use record::Record;
use reset::{Reset, Resets, TripleFault};
use session::{Boot, Rest, Session, Start, Writing, run_machine};

pub(crate) use error::RunError;
pub(crate) use outcome::{HALTED, Outcome, shutdown_line};
use outputs::open_console;
pub(crate) use outputs::{check_outputs, open_trace};

/// Runs the machine to its end.
///
/// # Errors
///
/// [`RunError`]; what the guest does is an [`Outcome`].
pub(crate) fn run(config: &RunConfig) -> Result<Outcome, RunError> {
    hypercall_log::check_words(config)?;
    if config.platform == PlatformArgument::None {
        check_plain(config, None)?;
    }
    sandbox::set_up(config).map_err(RunError::Sandbox)?;
    let kvm = pvh_timeline::step("open KVM", || Kvm::open_at(&config.kvm_device));
    let kvm = match kvm {
        Ok(kvm) => kvm,
        Err(refused) => {
            // A fault of the image is reported first.
            Kernel::open(config)?;
            return Err(RunError::Kvm(refused));
        }
    };
    let end = Arc::new(open_console(config)?);
    let console = ConsoleQueue::default();
    let log = GuestLog::new("pvh-vmm", ConsoleQueue::default(), config.has_guest_log);
    thread::scope(|scope| {
        let writing = Writing::start_on_thread(scope, &kvm, &console, &end, &log);
        let outlets = Outlets {
            console: console.clone(),
            end: Arc::clone(&end),
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
    let kernel = pvh_timeline::step("open kernel", || Kernel::open(config))?;
    let choice = pvh_timeline::step("choose platform", || choose(config, &kernel, kvm))?;
    if choice.platform == Platform::Plain {
        check_plain(config, choice.reason)?;
    }
    outlets.hint =
        (!config.is_quiet && config.gdb.is_none()).then(|| silence_hint(config, &choice).into());
    let (kernel, boot) = (&kernel, &mut None);
    let blueprint = pvh_timeline::step("plan", move || {
        Blueprint::draw(config, kernel, choice.platform, kvm, boot)
    })?;
    if config.memory_bytes >= SLOW_MEMORY_BYTES && !config.is_quiet {
        complain(&format!(
            "--memory {}: KVM first makes its tables for this much memory, about a second per TiB",
            Size::of(config.memory_bytes)
        ));
    }
    let record = config.record.as_deref().map(Record::begin).transpose()?;
    let recorder = record.as_ref().map(Record::recorder);
    outlets.recorder = hypercall_log::attach(config, recorder, &outlets.log);
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
    /// Builds the first machine and runs it, and another one after each reboot, until the end.
    ///
    /// When the first machine has been built, this thread runs first vCPUs and nothing else, in the
    /// sandbox of a vCPU. When the last machine has ended, it writes the rest of the output.
    fn run(&self, reason: Option<Reason>, writing: Writing<'_>) -> Result<Outcome, RunError> {
        let ended = thread::scope(|scope| {
            let ((hand_over, first), (boots, booting)) = (mpsc::channel(), mpsc::channel());
            // It enters the sandbox while this thread builds.
            let build = move || self.run_machines(&first, &boots);
            let builder = threads::start_scoped(scope, Role::Builder, build);
            let builder = builder.map_err(host("cannot start the builder's thread"))?;
            let started = SystemTime::now();
            let machine = self.build()?;
            if let Some(reason) = reason.filter(|_| !self.config.is_quiet) {
                complain(&reason.to_string());
            }
            let user = User::take(&self.outlets.end, !self.config.reads_standard_input());
            let user = Box::new(user.map_err(host("cannot set up the console"))?);
            pvh_timeline::step("confine", || sandbox::confine(self.config))
                .map_err(RunError::Sandbox)?;
            let (rest, boot) = Rest::of(machine);
            let start = Start::First { user, writing };
            // The builder receives before it does anything else.
            let _ = hand_over.send((started, rest, start));
            pvh_timeline::step("filter", || sandbox::enter(Role::Vcpu(0)));
            boot.run();
            booting.into_iter().for_each(Boot::run);
            // The panic's message was printed.
            let ended = builder.join().map_err(|_| RunError::Panicked)?;
            ended.map_err(RunError::Sandbox)?
        });
        // The signals were blocked on this thread, and a failed session was dropped on another.
        let (mut end, mut session) = ended.inspect_err(|_| signals::unblock())?;
        if let Some(wreck) = session.take_wreck() {
            self.blueprint.examine(&wreck, &mut end, self.outlets);
        }
        hypercall_log::report_dropped(self.outlets);
        let patience = match end {
            End::Quit | End::Signal(_) => 4,
            _ => u32::MAX,
        };
        session.finish(patience);
        let has_lost_output = session.has_lost_output();
        if matches!(end, End::Signal(_)) {
            session.leave_signals_blocked();
        }
        Outcome::of(end).map(|outcome| match outcome {
            Outcome::PoweredOff if has_lost_output => Outcome::OutputLost,
            other => other,
        })
    }

    fn build(&self) -> Result<Machine, RunError> {
        pvh_timeline::step("build", || self.blueprint.build(self.kvm, self.outlets))
    }

    /// Runs the first machine, once it has been built and handed over, and another one after each
    /// reboot; returns how the last one ended.
    fn run_machines(
        &self,
        first: &Receiver<(SystemTime, Rest, Start<'_>)>,
        boots: &Sender<Boot>,
    ) -> Result<(End, Session), RunError> {
        // The error is reported by the thread that could not build the machine.
        let (mut started, mut rest, mut start) = first.recv().map_err(|_| RunError::Panicked)?;
        let mut resets = Resets::default();
        loop {
            let began = Instant::now();
            let (end, mut session) = run_machine(rest, start, self.outlets)?;
            let (end, is_reboot) = self.judge(end, &mut resets, (started, began));
            if !is_reboot {
                return Ok((end, session));
            }
            if let Some(disk) = session.take_stuck_disk() {
                // A late write of the guest before would damage what the next one writes.
                session.finish(u32::MAX);
                return Err(RunError::StuckDisk(disk));
            }
            // Its memory goes before that of the next machine comes.
            drop(session.take_wreck());
            start = Start::Again(Box::new(session));
            started = SystemTime::now();
            let machine = match self.build() {
                Ok(machine) => machine,
                Err(error) => {
                    start.give_up();
                    return Err(error);
                }
            };
            let boot;
            (rest, boot) = Rest::of(machine);
            // The main thread receives until this one ends.
            let _ = boots.send(boot);
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
        (config.hypercall_log.is_some(), "--log hypercalls"),
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
