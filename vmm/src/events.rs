//! The event loop: standard input, signals, timers, and the end of the machine.

mod halt;
mod silence;

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    sync::Arc,
    time::Duration,
};

use event_manager::{
    Error, EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps,
};
use nix::{errno::Errno, sys::signal::Signal};
use pvh_devices::Request;
use pvh_terminal::{Command, GuestLog, HELP, Input, RawTerminal};
use pvh_xen::XenPlatform;
use vmm_sys_util::timerfd::TimerFd;

use crate::{
    console::ConsoleEnd,
    machine::{Board, End},
    outlets::Outlets,
    signals::{Signals, stop_self},
};
use halt::{Halt, HaltWatch};
use silence::Silence;

/// The user's input, terminal and signals; they outlive a reboot.
#[derive(Debug)]
pub(crate) struct User {
    stdin: Option<File>,
    input: Input,
    // Dropped before `signals`: they stay blocked until the terminal is restored.
    terminal: Option<RawTerminal>,
    signals: Signals,
    is_terminal: bool,
    silence: Silence,
}

impl User {
    /// Takes the signals and the terminal; without `has_input` the guest gets no standard input. A console
    /// elsewhere leaves the terminal alone: its keys make signals.
    ///
    /// # Errors
    ///
    /// The host refuses either.
    pub(crate) fn take(end: &ConsoleEnd, has_input: bool) -> io::Result<Self> {
        let signals = Signals::block()?;
        let is_stdio = end.is_stdio();
        let is_terminal = is_stdio && io::stdin().is_terminal();
        Ok(Self {
            stdin: end.input()?.filter(|_| has_input || !is_stdio),
            input: Input::new(is_terminal),
            terminal: if is_stdio {
                RawTerminal::enter()?
            } else {
                None
            },
            signals,
            is_terminal,
            silence: Silence::begin(),
        })
    }

    /// Tells whether the terminal is raw: its keys make no signals.
    pub(crate) fn has_raw_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Restores the terminal: its keys make signals again. What was typed for the guest and not
    /// read is discarded.
    pub(crate) fn leave_terminal(&mut self) {
        if let Some(terminal) = self.terminal.take() {
            terminal.leave();
        }
    }

    /// Leaves the signals blocked, for the rest of the process.
    pub(crate) fn leave_signals_blocked(self) {
        self.signals.leave_blocked();
    }

    /// Takes the number of a pending signal that ends the process; stops the process on SIGTSTP.
    pub(crate) fn ending_signal(&self) -> Option<i32> {
        self.signals.next_ending()
    }
}

/// Runs until the machine on `board` has ended, and returns why.
///
/// # Errors
///
/// The host refuses to watch a descriptor.
pub(crate) fn run(
    user: User,
    board: &Arc<Board>,
    platform: Option<&Arc<XenPlatform>>,
    outlets: &Outlets,
) -> Result<(End, User), Error> {
    let mut manager = EventManager::new()?;
    let subscriber = Loop {
        user,
        board: Arc::clone(board),
        platform: platform.cloned(),
        log: outlets.log.clone(),
        hint: outlets.hint.clone(),
        halt: HaltWatch::new(outlets.on_halt),
        watch: Watch::None,
        power_off: None,
        end: None,
        failed: None,
    };
    let id = manager.add_subscriber(subscriber);
    loop {
        let subscriber = manager.subscriber_mut(id)?;
        if let Some(error) = subscriber.failed.take() {
            return Err(error);
        }
        if let Some(end) = subscriber.end.take() {
            let subscriber = manager.remove_subscriber(id)?;
            return Ok((end, subscriber.user));
        }
        manager.run()?;
    }
}

/// How standard input is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    /// Not watched now.
    None,
    /// By epoll.
    Epoll,
    /// Not by epoll: a file is always readable.
    Always,
}

#[derive(Debug)]
struct Loop {
    user: User,
    board: Arc<Board>,
    platform: Option<Arc<XenPlatform>>,
    log: GuestLog,
    /// The line for a user at a terminal whose guest prints nothing.
    hint: Option<Arc<str>>,
    halt: HaltWatch,
    watch: Watch,
    /// Set once the guest was asked to power off.
    power_off: Option<PowerOffRequest>,
    end: Option<End>,
    failed: Option<Error>,
}

/// A guest that was asked to power off.
#[derive(Debug)]
struct PowerOffRequest {
    /// The signal that asked for it.
    signal: i32,
    /// The time until the guest is ended; dropping the timer would end the watch.
    _grace: TimerFd,
}

impl MutEventSubscriber for Loop {
    fn init(&mut self, ops: &mut EventOps) {
        let added = [
            Events::with_data(self.board.ended(), ENDED, EventSet::IN),
            Events::with_data(self.board.input_wanted(), WANTED, EventSet::IN),
            Events::with_data(self.user.signals.fd(), SIGNALS, EventSet::IN),
        ];
        let lost = self.board.lost();
        let lost = lost.map(|lost| Events::with_data(lost, LOST, EventSet::IN));
        let mut added = added.into_iter().chain(lost);
        self.failed = added.find_map(|events| ops.add(events).err());
        self.watch_silence(ops);
        if self.board.halts().is_some() {
            self.halt.start(ops, HALTS);
        }
        // Input that the machine before a reboot did not take.
        self.deliver();
        self.watch_input(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            // An end by the user comes first: its signal is read only once.
            ENDED if self.end.is_none() => self.end = self.take_end(),
            WANTED => {
                // Reset first, so that a later request of the guest is not lost.
                let _ = self.board.input_wanted().read();
                self.deliver();
                self.watch_input(ops);
            }
            SIGNALS => self.take_signals(ops),
            LOST if self.board.has_lost_memory() => self.end = Some(End::LostMemory),
            GRACE => {
                let signal = self.power_off.as_ref().map(|request| request.signal);
                self.end = self.end.take().or(signal.map(End::Signal));
            }
            SILENCE => self.end_silence(),
            HALTS => self.look_for_halt(),
            STDIN => {
                self.read_input(ops);
                self.watch_input(ops);
            }
            _ => {}
        }
    }
}

impl Loop {
    /// Watches standard input while the guest takes more and the terminal is ours.
    fn watch_input(&mut self, ops: &mut EventOps) {
        let usable = !self.user.is_terminal || pvh_terminal::is_ours();
        let wanted = usable && self.user.input.wants_more();
        if !wanted {
            return self.unwatch_input(ops);
        }
        if self.watch == Watch::None
            && let Some(stdin) = &self.user.stdin
        {
            self.watch = match ops.add(Events::with_data(stdin, STDIN, EventSet::IN)) {
                Ok(()) => Watch::Epoll,
                Err(Error::Epoll(error)) if error.errno() == Errno::EPERM as i32 => Watch::Always,
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            };
        }
        while self.watch == Watch::Always && self.user.input.wants_more() {
            self.read_input(ops);
        }
    }

    fn unwatch_input(&mut self, ops: &mut EventOps) {
        if self.watch == Watch::Epoll
            && let Some(stdin) = &self.user.stdin
        {
            // It was added; an error means that it is removed already.
            let _ = ops.remove(Events::empty(stdin));
        }
        self.watch = Watch::None;
    }

    /// Reads once; at the end of the input or after an error the guest gets no more.
    fn read_input(&mut self, ops: &mut EventOps) {
        let mut buffer = [0; 4096];
        let count = match self
            .user
            .stdin
            .as_mut()
            .map(|stdin| stdin.read(&mut buffer))
        {
            Some(Ok(count)) if count > 0 => count,
            Some(Err(error)) if is_temporary(&error) => return,
            _ => {
                self.unwatch_input(ops);
                self.user.stdin = None;
                return;
            }
        };
        match self
            .user
            .input
            .receive(buffer.get(..count).unwrap_or_default())
        {
            Some(Command::Quit) => self.end = Some(End::Quit),
            // No guest is left that could take the key.
            _ if self.halt.is_halted() && self.user.is_terminal => self.end = Some(End::Halted),
            Some(Command::Help) => {
                // The queue accepts everything.
                let _ = self.board.output().clone().write_all(HELP.as_bytes());
            }
            None => {}
        }
        self.deliver();
    }

    /// Watches for the hint about a silent guest, if the user is at a terminal.
    fn watch_silence(&mut self, ops: &mut EventOps) {
        if self.hint.is_none() || !self.user.is_terminal || !io::stderr().is_terminal() {
            return;
        }
        if self.user.silence.watch(ops, SILENCE) {
            self.end_silence();
        }
    }

    fn end_silence(&mut self) {
        self.user.silence.end();
        // A guest that has halted got a line that says more.
        let is_silent = !self.halt.is_halted()
            && !self.board.output().has_received()
            && !self.log.has_guest_lines();
        if let Some(hint) = self.hint.take().filter(|_| is_silent) {
            self.log.say(&hint);
        }
    }

    /// Asks the vCPUs of a plain machine whether they have halted for good.
    fn look_for_halt(&mut self) {
        match self.halt.look(self.board.halts(), self.user.is_terminal) {
            Some(Halt::End) => self.end = self.end.take().or(Some(End::Halted)),
            Some(Halt::Say(line)) => self.log.say(&line),
            None => {}
        }
    }

    fn deliver(&mut self) {
        let (board, platform) = (&self.board, &self.platform);
        self.user.input.deliver(|bytes| match platform {
            Some(platform) => platform.console_input(bytes),
            None => board.ports().enqueue_input(bytes),
        });
    }

    /// Takes why the machine ended. A guest that was asked to power off and reboots instead is
    /// ended: a reboot would forget the signal.
    fn take_end(&self) -> Option<End> {
        let end = self.board.take_end();
        match (&end, &self.power_off) {
            (Some(End::Request(Request::Reboot) | End::TripleFault(_)), Some(request)) => {
                Some(End::Signal(request.signal))
            }
            _ => end,
        }
    }

    fn take_signals(&mut self, ops: &mut EventOps) {
        while let Some(signal) = self.user.signals.next() {
            match signal {
                Signal::SIGTSTP => {
                    self.user.terminal = None;
                    stop_self();
                    self.resume(ops);
                }
                Signal::SIGCONT => self.resume(ops),
                _ if matches!(self.end, Some(End::Quit)) => {}
                other if self.request_power_off(other, ops) => {}
                other => self.end = Some(End::Signal(other as i32)),
            }
        }
    }

    /// Asks the guest to power off after the first signal; returns `false` if it must be ended.
    fn request_power_off(&mut self, signal: Signal, ops: &mut EventOps) -> bool {
        let is_polite = matches!(signal, Signal::SIGTERM | Signal::SIGINT);
        let Some(platform) = self.platform.as_ref().filter(|_| is_polite) else {
            return false;
        };
        if self.power_off.is_some() || self.end.is_some() {
            return false;
        }
        let Ok(grace) = start_timer(GRACE_TIME) else {
            return false;
        };
        if ops
            .add(Events::with_data(&grace, GRACE, EventSet::IN))
            .is_err()
            || !platform.request_power_off()
        {
            return false;
        }
        // Not directly to standard error: if nobody reads it, that would delay the next signal.
        self.log.say(&format!(
            "asked the guest to power off; {signal} again, or {} seconds, end it",
            GRACE_TIME.as_secs()
        ));
        self.power_off = Some(PowerOffRequest {
            signal: signal as i32,
            _grace: grace,
        });
        true
    }

    /// After a stop: the terminal may belong to this job again, or to another one.
    fn resume(&mut self, ops: &mut EventOps) {
        self.user.terminal = None;
        // A terminal that refuses raw mode now is used without it.
        let is_ours = self.user.is_terminal;
        let entered = is_ours.then(RawTerminal::enter);
        self.user.terminal = entered.and_then(Result::ok).flatten();
        self.watch_input(ops);
    }
}

/// Starts a timer that fires once.
fn start_timer(after: Duration) -> io::Result<TimerFd> {
    let mut timer = TimerFd::new()?;
    timer.reset(after, None)?;
    Ok(timer)
}

/// Tells whether a later read may succeed.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

const ENDED: u32 = 0;
const WANTED: u32 = 1;
const SIGNALS: u32 = 2;
const STDIN: u32 = 3;
const GRACE: u32 = 4;
const LOST: u32 = 5;
const SILENCE: u32 = 6;
const HALTS: u32 = 7;
/// Time for a guest to power off after it was asked.
const GRACE_TIME: Duration = Duration::from_secs(30);
