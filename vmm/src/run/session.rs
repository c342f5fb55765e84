//! The user's session, which outlives a reboot, and the run of one machine in it.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle, Scope},
    time::Duration,
};

use pvh_abi::sched::ShutdownReason;
use pvh_backends::{DeviceThreads, StuckDevice};
use pvh_devices::Request;
use pvh_kvm::{CopyAhead, Kvm};
use pvh_terminal::{ConsoleQueue, GuestLog, Stream, Writer, WriterHost, is_shared};
use pvh_xen::XenPlatform;

use super::{
    blueprint::Machine,
    error::{RunError, host},
    wreck::Wreck,
};
use crate::{
    console::ConsoleEnd,
    events::{self, User},
    machine::{Board, BootVcpu, End, MachineHost, Stopper, Threads},
    outlets::Outlets,
    sandbox,
    threads::{self, OnPanic, Role, ScopedThread},
};

/// The writer of console output to standard output, and that of the guest's log to standard error.
type Writers = [Writer; 2];

/// What the writers need of pvh-vmm.
#[derive(Clone, Copy)]
struct Program;

impl WriterHost for Program {
    fn start_thread(&self, life: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        threads::start(Role::Writer, OnPanic::Report, life)
    }

    fn has_written(&self) {
        pvh_timeline::mark(pvh_timeline::Moment::Output);
    }

    fn cannot_write(&self, error: &io::Error) {
        // The guest runs on, as with an unplugged serial line.
        let _ = writeln!(
            io::stderr(),
            "pvh-vmm: cannot write console output, dropping it from now on: {error}"
        );
    }
}

fn start_writers(console: &ConsoleQueue, end: &ConsoleEnd, log: &GuestLog) -> io::Result<Writers> {
    let sink = end.output()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let stream = |stream| (end.is_stdio() && is_shared()).then_some(stream);
    Ok([
        Writer::start(Program, console.clone(), sink, stream(Stream::Console))?,
        Writer::start(
            Program,
            log.output().clone(),
            File::from(stderr),
            stream(Stream::Lines),
        )?,
    ])
}

/// The writer threads, started or still to be started.
pub(super) enum Writing<'scope> {
    /// They run.
    Started(Writers),
    /// Another thread starts them.
    Starting(ScopedThread<'scope, io::Result<Writers>>),
    /// They have to be started.
    Wanted,
}

impl<'scope> Writing<'scope> {
    /// Starts the writers on another thread while the machine is built. That thread also makes KVM
    /// list its CPUID leaves, which takes as long as the rest of KVM's setup.
    pub(super) fn start_on_thread(
        scope: &'scope Scope<'scope, '_>,
        kvm: &'scope Kvm,
        console: &'scope ConsoleQueue,
        end: &'scope ConsoleEnd,
        log: &'scope GuestLog,
    ) -> Self {
        let thread = threads::start_scoped(scope, Role::Beside, || {
            // A new thread starts on the processor of its creator and may delay it; after a sleep
            // it wakes on an idle one.
            thread::sleep(Duration::from_nanos(1));
            // If this is late, the first vCPU lists them itself; it also reports a failure.
            let _ = pvh_timeline::step("list CPUID", || kvm.supported_cpuid());
            sandbox::prepare();
            pvh_timeline::step("console", || start_writers(console, end, log))
        });
        thread.map_or(Self::Wanted, Self::Starting)
    }

    fn finish(self, outlets: &Outlets) -> io::Result<Writers> {
        let begun = match self {
            Self::Started(writers) => Some(Ok(writers)),
            Self::Starting(thread) => thread.join().ok().and_then(Result::ok),
            Self::Wanted => None,
        };
        begun.unwrap_or_else(|| start_writers(&outlets.console, &outlets.end, &outlets.log))
    }
}

/// The user's signals and terminal, and the writers. It outlives a reboot.
pub(super) struct Session {
    user: User,
    writers: Writers,
    /// How long the end waits for readers at most, in units of 50 ms.
    patience: u32,
    stuck: Option<StuckDevice>,
    wreck: Option<Wreck>,
}

/// How a machine starts: as the first one, or after a reboot.
pub(super) enum Start<'scope> {
    /// The first machine of the run.
    First {
        /// The user's signals and terminal: taken before threads start that would not block the
        /// signals, and before the guest prints a prompt.
        user: Box<User>,
        /// The writers.
        writing: Writing<'scope>,
    },
    /// After a reboot, with the session of the machine before.
    Again(Box<Session>),
}

impl<'scope> Start<'scope> {
    fn begin(self) -> (User, Writing<'scope>) {
        match self {
            Self::First { user, writing } => (*user, writing),
            Self::Again(session) => (session.user, Writing::Started(session.writers)),
        }
    }

    /// Writes out all that the guest printed, after the next machine could not be built.
    pub(super) fn give_up(self) {
        if let Self::Again(mut session) = self {
            session.finish(u32::MAX);
        }
    }
}

impl Session {
    /// Takes what is left of the last machine.
    pub(super) fn take_wreck(&mut self) -> Option<Wreck> {
        self.wreck.take()
    }

    /// Takes the disk that the last machine had to leave behind, if there was one.
    pub(super) fn take_stuck_disk(&mut self) -> Option<StuckDevice> {
        self.stuck.take()
    }

    /// Keeps further signals from ending the process before its last messages.
    pub(super) fn leave_signals_blocked(self) {
        self.user.leave_signals_blocked();
    }

    /// Tells whether console output was lost.
    pub(super) fn has_lost_output(&self) -> bool {
        let [console, _] = &self.writers;
        console.has_lost_output()
    }

    /// Restores the terminal and waits until all output is written, at most `patience` times 50 ms,
    /// or until a signal.
    pub(super) fn finish(&mut self, mut patience: u32) {
        if self.user.has_raw_terminal() {
            patience = self.await_replies(patience);
        }
        self.user.leave_terminal();
        patience = patience.min(self.patience);
        for writer in &self.writers {
            writer.drain(|| {
                patience = patience.saturating_sub(1);
                patience == 0 || self.user.ending_signal().is_some()
            });
        }
    }
}

impl Session {
    /// Waits, while the terminal is still raw, for its answers to what the guest printed last: at
    /// most 0.4 s for the output and 0.1 s more. Returns the patience that is left: none after a
    /// signal.
    fn await_replies(&self, patience: u32) -> u32 {
        let [console, _] = &self.writers;
        let (mut looks, mut is_signalled) = (0_u32, false);
        console.drain(|| {
            looks = looks.saturating_add(1);
            is_signalled = self.user.ending_signal().is_some();
            is_signalled || looks >= patience.min(RAW_LOOKS)
        });
        if is_signalled {
            return 0;
        }
        if io::stdout().is_terminal() {
            thread::sleep(console.reply_time());
        }
        patience.saturating_sub(looks)
    }
}

/// How often, every 50 ms, the end looks whether the output is written before it restores the
/// terminal. After that, keys make signals again, which can end the writing.
const RAW_LOOKS: u32 = 8;

/// Ends a domain, which prints its last words. The guest's HVM parameter decides what a triple
/// fault means.
fn end_domain(platform: Option<&XenPlatform>, end: End) -> End {
    let Some(platform) = platform else {
        return end;
    };
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

/// Tells gdb that the machine ends.
fn tell_gdb<T, E>(board: &Board, ended: &Result<(End, T), E>) {
    if let (Some(gate), Ok((end, _))) = (board.gate(), ended) {
        gate.end(end.exit_code());
    }
}

/// The first vCPU of a machine, for the thread that runs it.
pub(super) struct Boot {
    vcpu: Option<BootVcpu>,
    /// Dropped when it has stopped.
    running: Sender<()>,
}

impl Boot {
    /// Runs it until the machine stops.
    pub(super) fn run(self) {
        if let Some(vcpu) = self.vcpu {
            vcpu.run();
        }
        drop(self.running);
    }
}

/// A machine without its first vCPU.
pub(super) struct Rest {
    machine: Machine,
    stopper: Stopper,
    ahead: Option<Arc<CopyAhead>>,
    running: Sender<()>,
    /// Disconnected when every vCPU has stopped, and so has dropped its `running`.
    stopped: Receiver<()>,
}

impl Rest {
    /// Takes the first vCPU from the others: it runs on the main thread, which is the fastest way
    /// into the guest.
    pub(super) fn of(mut machine: Machine) -> (Self, Boot) {
        let (board, platform) = (&machine.board, machine.platform.as_ref());
        let stopper = Stopper::new(board, &machine.vcpus, platform);
        let ahead = machine.ahead.take();
        let ahead = ahead.map(Arc::new);
        let vcpu = (!machine.vcpus.is_empty()).then(|| {
            let vcpu = machine.vcpus.remove(0);
            BootVcpu::new(vcpu, board, platform).copying(ahead.as_ref())
        });
        let (running, stopped) = mpsc::channel();
        let rest = Self {
            machine,
            stopper,
            ahead,
            running: running.clone(),
            stopped,
        };
        (rest, Boot { vcpu, running })
    }
}

/// Runs a machine to its end, on the builder's thread: starts everything but the first vCPU, which
/// another thread runs meanwhile.
///
/// # Errors
///
/// [`RunError`]: the host refuses a thread, the terminal or a descriptor.
pub(super) fn run_machine(
    rest: Rest,
    start: Start<'_>,
    outlets: &Outlets,
) -> Result<(End, Session), RunError> {
    let (user, writing) = start.begin();
    let Rest {
        machine,
        stopper,
        ahead,
        running,
        stopped,
    } = rest;
    let server = outlets.listen().map_err(RunError::Gdb)?;
    let (board, platform) = (machine.board, machine.platform);
    let threads = pvh_timeline::step("vCPU threads", || {
        Threads::start(stopper, machine.vcpus, ahead.as_ref(), &running)
    });
    drop(running);
    let writers = writing.finish(outlets);
    let writers = writers.map_err(host("cannot set up the console"))?;
    let mut session = Session {
        user,
        writers,
        patience: outlets.end.patience(),
        stuck: None,
        wreck: Some(machine.wreck),
    };
    let mut threads = threads.map_err(|source| {
        session.finish(u32::MAX);
        host("cannot start a vCPU thread")(source)
    })?;
    let back_ends = MachineHost::new(Arc::clone(&board), outlets.log.clone());
    let devices = DeviceThreads::start(machine.devices, &back_ends);
    let mut devices = devices.map_err(|source| {
        session.finish(u32::MAX);
        host("cannot start the thread of a device")(source)
    })?;
    if let Some(ahead) = ahead {
        // Without this thread the guest's page faults copy, more slowly.
        let _ = threads.copy_ahead(ahead);
    }
    if let Some((server, guest)) = server.zip(machine.debuggee) {
        let served = threads.serve_gdb(server, guest, outlets.log.clone());
        served.map_err(host("cannot start the thread of gdb"))?;
    }
    let user = session.user;
    let mut ended = thread::scope(|scope| {
        let events = || events::run(user, &board, platform.as_ref(), outlets);
        let events = threads::start_scoped(scope, Role::Events, events);
        let events = events.map_err(host("cannot start the thread of the devices"))?;
        // The panic's message was printed.
        let ended = events.join().map_err(|_| RunError::Panicked)?;
        ended.map_err(RunError::Sandbox)
    })?;
    tell_gdb(&board, &ended);
    threads.stop();
    await_vcpus(&stopped, ended.as_mut().ok().map(|(_, user)| user), outlets);
    drop(threads);
    session.stuck = devices.stop();
    if let Some(disk) = &session.stuck {
        outlets.log.say(&format!("{disk}; it is left behind"));
    }
    let (end, user) = ended.map_err(RunError::Events)?;
    session.user = user;
    Ok((end_domain(platform.as_deref(), end), session))
}

/// Waits until every vCPU has stopped. If that takes long, restores the terminal and says why.
fn await_vcpus(stopped: &Receiver<()>, user: Option<&mut User>, outlets: &Outlets) {
    if stopped.recv_timeout(VCPU_STOP_TIMEOUT) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    if let Some(user) = user {
        user.leave_terminal();
    }
    outlets.log.say(HELD_UP);
    // Fails when every vCPU has stopped.
    let _ = stopped.recv();
}

/// A vCPU that has not stopped by then waits in the kernel, where no signal ends its page fault.
const VCPU_STOP_TIMEOUT: Duration = Duration::from_secs(5);
const HELD_UP: &str = "the host's kernel holds up a vCPU, as when a file system does not answer; \
                       pvh-vmm ends when the kernel lets the vCPU go";
