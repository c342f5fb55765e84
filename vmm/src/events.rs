//! The event loop of the main thread: standard input, signals, and the end of the machine.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use event_manager::{
    Error, EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps,
};
use nix::{errno::Errno, sys::signal::Signal};
use pvh_xen::XenPlatform;
use vmm_sys_util::timerfd::TimerFd;

use crate::{
    console::{Command, HELP, Input},
    devices::Request,
    machine::{Board, End},
    outlets::Outlets,
    platform::GuestLog,
    signals::{Signals, stop_self},
    terminal::{self, RawTerminal},
};

/// What belongs to the user rather than to one machine: it outlives a reboot.
#[derive(Debug)]
pub(crate) struct User {
    stdin: Option<File>,
    input: Input,
    // Before the signals: their mask must be in force until the terminal is as it was.
    terminal: Option<RawTerminal>,
    signals: Signals,
    is_terminal: bool,
}

impl User {
    /// Takes the signals and the terminal; without `has_input` the guest gets nothing from standard input.
    ///
    /// # Errors
    ///
    /// When the host refuses either.
    pub(crate) fn take(has_input: bool) -> io::Result<Self> {
        let signals = Signals::block()?;
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let is_terminal = stdin.is_terminal();
        Ok(Self {
            stdin: has_input.then_some(stdin),
            input: Input::new(is_terminal),
            terminal: RawTerminal::enter()?,
            signals,
            is_terminal,
        })
    }

    /// Gives the terminal back: its keys make signals again.
    pub(crate) fn leave_terminal(&mut self) {
        self.terminal = None;
    }

    /// Leaves the signals blocked, for the rest of the process.
    pub(crate) fn leave_signals_blocked(self) {
        self.signals.leave_blocked();
    }

    /// Takes the number of a signal that has arrived and asks to end; stops when one asks for that.
    pub(crate) fn ending_signal(&self) -> Option<i32> {
        self.signals.next_ending()
    }
}

/// Runs until the machine on `board` has ended, and says why.
///
/// # Errors
///
/// When the host refuses to watch a descriptor.
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
        hint: outlets.hint,
        silence: None,
        watch: Watch::None,
        leaving: None,
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

/// How standard input is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    /// Not now.
    None,
    /// By epoll.
    Epoll,
    /// It is a file, always readable.
    Always,
}

#[derive(Debug)]
struct Loop {
    user: User,
    board: Arc<Board>,
    platform: Option<Arc<XenPlatform>>,
    log: GuestLog,
    /// What a user at a terminal is told if the guest prints nothing.
    hint: Option<&'static str>,
    /// When that is; dropping it ends the watch.
    silence: Option<TimerFd>,
    watch: Watch,
    /// The guest has been asked to power off.
    leaving: Option<Leaving>,
    end: Option<End>,
    failed: Option<Error>,
}

/// A guest that was asked to power off.
#[derive(Debug)]
struct Leaving {
    /// The signal because of which it was asked.
    signal: i32,
    /// When it is waited for no longer; dropping it would end the watch.
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
        // What was typed to a machine before this one, and not taken.
        self.deliver();
        self.follow_input(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            // What the user wants comes first: the signal that said so is read only once.
            ENDED if self.end.is_none() => self.end = self.take_end(),
            WANTED => {
                // Reset first: what the guest asks for meanwhile is not lost.
                let _ = self.board.input_wanted().read();
                self.deliver();
                self.follow_input(ops);
            }
            SIGNALS => self.take_signals(ops),
            LOST if self.board.has_lost_memory() => self.end = Some(End::LostMemory),
            GRACE => {
                let signal = self.leaving.as_ref().map(|leaving| leaving.signal);
                self.end = self.end.take().or(signal.map(End::Signal));
            }
            SILENCE => self.end_silence(),
            STDIN => {
                self.read_input(ops);
                self.follow_input(ops);
            }
            _ => {}
        }
    }
}

impl Loop {
    /// Follows standard input exactly when it is wanted and there.
    fn follow_input(&mut self, ops: &mut EventOps) {
        let usable = !self.user.is_terminal || terminal::is_ours();
        let wanted = usable && self.user.input.wants_more();
        if !wanted {
            return self.unfollow(ops);
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

    fn unfollow(&mut self, ops: &mut EventOps) {
        if self.watch == Watch::Epoll
            && let Some(stdin) = &self.user.stdin
        {
            // It was added; if it is gone already, so much the better.
            let _ = ops.remove(Events::empty(stdin));
        }
        self.watch = Watch::None;
    }

    /// Reads once; at the end of the input, or when it fails, the guest simply gets no more.
    fn read_input(&mut self, ops: &mut EventOps) {
        let mut buffer = [0; 4096];
        let count = match self
            .user
            .stdin
            .as_mut()
            .map(|stdin| stdin.read(&mut buffer))
        {
            Some(Ok(count)) if count > 0 => count,
            Some(Err(error)) if is_passing(&error) => return,
            _ => {
                self.unfollow(ops);
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
            Some(Command::Help) => {
                // The queue takes everything.
                let _ = self.board.output().clone().write_all(HELP.as_bytes());
            }
            None => {}
        }
        self.deliver();
    }

    /// Starts the time after which a user at a terminal is told what to do about a guest that prints nothing.
    fn watch_silence(&mut self, ops: &mut EventOps) {
        if self.hint.is_none() || !self.user.is_terminal || !io::stderr().is_terminal() {
            return;
        }
        // Without the timer there is no hint, which no guest needs.
        let timer = start_timer(SILENCE_TIME).ok();
        self.silence = timer.filter(|timer| {
            ops.add(Events::with_data(timer, SILENCE, EventSet::IN))
                .is_ok()
        });
    }

    fn end_silence(&mut self) {
        self.silence = None;
        let is_silent = !self.board.output().has_received() && !self.log.output().has_received();
        if let Some(hint) = self.hint.take().filter(|_| is_silent) {
            self.log.say(hint);
        }
    }

    fn deliver(&mut self) {
        let (board, platform) = (&self.board, &self.platform);
        self.user.input.deliver(|bytes| match platform {
            Some(platform) => platform.console_input(bytes),
            None => board.ports().enqueue_input(bytes),
        });
    }

    /// Takes why the machine ended. A guest that was asked to power off and reboots instead is not to be built anew: the
    /// signal would be forgotten.
    fn take_end(&self) -> Option<End> {
        let end = self.board.take_end();
        match (&end, &self.leaving) {
            (Some(End::Request(Request::Reboot) | End::TripleFault(_)), Some(leaving)) => {
                Some(End::Signal(leaving.signal))
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
                    self.come_back(ops);
                }
                Signal::SIGCONT => self.come_back(ops),
                _ if matches!(self.end, Some(End::Quit)) => {}
                other if self.ask_to_leave(other, ops) => {}
                other => self.end = Some(End::Signal(other as i32)),
            }
        }
    }

    /// Asks the guest to power off because of a signal that has come for the first time; `false` if it is to be ended
    /// without being asked.
    fn ask_to_leave(&mut self, signal: Signal, ops: &mut EventOps) -> bool {
        let is_polite = matches!(signal, Signal::SIGTERM | Signal::SIGINT);
        let Some(platform) = self.platform.as_ref().filter(|_| is_polite) else {
            return false;
        };
        if self.leaving.is_some() || self.end.is_some() {
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
        // Not straight to standard error: a guest whose log nobody reads would hold up the next signal.
        self.log.say(&format!(
            "asked the guest to power off; {signal} again, or {} seconds, end it",
            GRACE_TIME.as_secs()
        ));
        self.leaving = Some(Leaving {
            signal: signal as i32,
            _grace: grace,
        });
        true
    }

    /// After a stop: the terminal may be ours again, or somebody else's now.
    fn come_back(&mut self, ops: &mut EventOps) {
        self.user.terminal = None;
        // A terminal that refuses raw mode now is used as it is.
        self.user.terminal = RawTerminal::enter().ok().flatten();
        self.follow_input(ops);
    }
}

/// Starts a timer that fires once.
fn start_timer(after: Duration) -> io::Result<TimerFd> {
    let mut timer = TimerFd::new()?;
    timer.reset(after, None)?;
    Ok(timer)
}

/// Tells whether reading may be tried again later.
fn is_passing(error: &io::Error) -> bool {
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
/// How long a guest may print nothing until its user is told what to do.
const SILENCE_TIME: Duration = Duration::from_secs(10);
/// How long a guest that was asked to power off is waited for.
const GRACE_TIME: Duration = Duration::from_secs(30);
