//! Serves one gdb after another until the machine ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use gdbstub::stub::{
    DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason,
    state_machine::{GdbStubStateMachine, GdbStubStateMachineInner, state::Running},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    connection::{Client, ConnectionError},
    listen::{Address, BindError, Listener},
    machine::{Cause, Event, Machine},
    target::{Debugged, Never},
};

/// A server for gdb. It serves one client at a time; the next one waits.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

/// What a server says while it serves, a line each.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Served {
    /// A client has connected.
    Connected,
    /// gdb has detached: the breakpoints are gone, and the machine runs.
    Detached,
    /// The connection has ended without a word of gdb. The breakpoints are gone; a machine that
    /// was stopped stays so, for the next client.
    Lost {
        /// Why.
        why: String,
        /// Whether the machine is stopped.
        is_stopped: bool,
    },
    /// gdb has ended the machine.
    Killed,
}

type Stub<'a, 'm> = GdbStubStateMachine<'a, Debugged<'m>, Client<'a>>;
type StubError = GdbStubError<Never, ConnectionError>;

/// How a session ended.
enum End {
    Detached,
    Killed,
    Lost(String),
    /// The machine has ended, or the server is to stop.
    Over,
}

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(address: &Address) -> Result<Self, BindError> {
        Listener::bind(address).map(|listener| Self { listener })
    }

    /// Returns the address, with the port that the host has chosen.
    #[must_use]
    pub fn address(&self) -> Address {
        self.listener.address()
    }

    /// Serves until the machine ends or `stop` is readable. The machine is stopped at first, and
    /// waits for a client.
    ///
    /// A client costs at most 1 MiB for an answer and 16 KiB for a packet. One that does not read
    /// is dropped after five seconds.
    ///
    /// # Errors
    ///
    /// The host refuses to wait for a descriptor.
    pub fn serve(
        &self,
        machine: &mut dyn Machine,
        stop: BorrowedFd<'_>,
        tell: &mut dyn FnMut(Served),
    ) -> io::Result<()> {
        let mut is_stopped = true;
        while let Some(stream) = self.next_client(machine, stop, &mut is_stopped)? {
            tell(Served::Connected);
            let mut target = Debugged::new(machine);
            let mut cause = (0, Cause::Request);
            if !is_stopped {
                match stop_for_client(&mut target) {
                    Some(found) => cause = found,
                    None => return Ok(()),
                }
            }
            is_stopped = true;
            let client = Client::new(stream, stop);
            let end = session(client, &mut target, cause, &mut is_stopped, stop);
            match end? {
                End::Detached => {
                    target.release();
                    is_stopped = false;
                    tell(Served::Detached);
                }
                End::Lost(why) => {
                    target.remove_breakpoints();
                    tell(Served::Lost { why, is_stopped });
                }
                End::Killed => {
                    target.remove_breakpoints();
                    tell(Served::Killed);
                    target.machine.kill();
                    return Ok(());
                }
                End::Over => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits for a client; `None` at the end.
    fn next_client(
        &self,
        machine: &mut dyn Machine,
        stop: BorrowedFd<'_>,
        is_stopped: &mut bool,
    ) -> io::Result<Option<crate::listen::Stream>> {
        loop {
            while let Some(event) = machine.event() {
                match event {
                    Event::Ended(_) => return Ok(None),
                    // Nobody looks at it: it goes its way.
                    Event::Stopped {
                        cause: Cause::Crash,
                        ..
                    } => machine.resume(&|_| crate::Motion::Run),
                    Event::Stopped { .. } => *is_stopped = true,
                }
            }
            let ready = wait([stop, self.listener.as_fd(), machine.events_fd()])?;
            match ready {
                [true, ..] => return Ok(None),
                [_, true, _] => match self.listener.accept() {
                    Ok(stream) => return Ok(Some(stream)),
                    // The client has gone already, or the host has no descriptor now.
                    Err(_) => std::thread::sleep(ACCEPT_PAUSE),
                },
                _ => {}
            }
        }
    }
}

/// Stops a running machine for a client that has just connected; `None` if it has ended.
fn stop_for_client(target: &mut Debugged<'_>) -> Option<(u32, Cause)> {
    target.machine.stop();
    let now = Instant::now();
    let deadline = now.checked_add(STOP_TIMEOUT).unwrap_or(now);
    loop {
        match target.machine.event() {
            Some(Event::Stopped { vcpu, cause }) => return Some((vcpu, cause)),
            Some(Event::Ended(_)) => return None,
            None if Instant::now() >= deadline => return Some((0, Cause::Request)),
            None => std::thread::sleep(STOP_PAUSE),
        }
    }
}

/// Serves one client.
fn session<'a, 'm>(
    client: Client<'a>,
    target: &mut Debugged<'m>,
    (vcpu, cause): (u32, Cause),
    is_stopped: &mut bool,
    stop: BorrowedFd<'_>,
) -> io::Result<End> {
    // gdb asks for the reason of a stop by itself; gdbstub answers SIGTRAP.
    let _ = target.stop_reason(vcpu, cause);
    let stub = GdbStub::builder(client)
        .packet_buffer_size(PACKET_MAX)
        .build();
    let started = match stub {
        Ok(stub) => stub.run_state_machine(target),
        Err(error) => return Ok(End::Lost(error.to_string())),
    };
    let mut stub = match started {
        Ok(stub) => stub,
        Err(error) => return Ok(End::Lost(why(error))),
    };
    loop {
        *is_stopped = !matches!(stub, GdbStubStateMachine::Running(_));
        stub = match turn(stub, target, stop)? {
            Turn::Next(stub) => stub,
            Turn::End(end) => return Ok(end),
        };
    }
}

/// What comes of one turn of a session.
enum Turn<'a, 'm> {
    Next(Stub<'a, 'm>),
    End(End),
}

impl<'a, 'm> Turn<'a, 'm> {
    fn of(next: Result<Stub<'a, 'm>, String>) -> Self {
        match next {
            Ok(stub) => Self::Next(stub),
            Err(why) => Self::End(End::Lost(why)),
        }
    }
}

/// Waits for the client or the machine, and serves what has come.
fn turn<'a, 'm>(
    stub: Stub<'a, 'm>,
    target: &mut Debugged<'m>,
    stop: BorrowedFd<'_>,
) -> io::Result<Turn<'a, 'm>> {
    Ok(match stub {
        GdbStubStateMachine::Disconnected(inner) => Turn::End(match inner.get_reason() {
            DisconnectReason::Kill => End::Killed,
            DisconnectReason::Disconnect => End::Detached,
            _ => End::Over,
        }),
        GdbStubStateMachine::CtrlCInterrupt(inner) => {
            target.machine.stop();
            // The stop is reported when it has happened.
            let none = None::<MultiThreadStopReason<u64>>;
            Turn::of(inner.interrupt_handled(target, none).map_err(why))
        }
        GdbStubStateMachine::Idle(mut inner) => {
            let client = inner.borrow_conn();
            match wait([stop, client.as_fd()])? {
                [true, _] => Turn::End(End::Over),
                [_, true] => Turn::of(feed(inner.into(), target)),
                _ => Turn::Next(inner.into()),
            }
        }
        GdbStubStateMachine::Running(mut inner) => {
            if let Some(event) = target.machine.event() {
                return Ok(report(inner, target, event));
            }
            let client = inner.borrow_conn();
            match wait([stop, client.as_fd(), target.machine.events_fd()])? {
                [true, ..] => {
                    let end = target.machine.event().unwrap_or(Event::Ended(0));
                    report(inner, target, end)
                }
                [_, true, _] => Turn::of(feed(inner.into(), target)),
                _ => Turn::Next(inner.into()),
            }
        }
    })
}

/// Tells gdb about an event of the running machine.
fn report<'a, 'm>(
    inner: GdbStubStateMachineInner<'a, Running, Debugged<'m>, Client<'a>>,
    target: &mut Debugged<'m>,
    event: Event,
) -> Turn<'a, 'm> {
    match event {
        Event::Stopped { vcpu, cause } => {
            let reason = target.stop_reason(vcpu, cause);
            Turn::of(inner.report_stop(target, reason).map_err(why))
        }
        Event::Ended(code) => {
            // A client that has gone need not be told.
            let _ = inner.report_stop(target, MultiThreadStopReason::Exited(code));
            Turn::End(End::Over)
        }
    }
}

/// Gives what the client has sent to the stub, byte by byte; the error says why the session ends.
fn feed<'a, 'm>(mut stub: Stub<'a, 'm>, target: &mut Debugged<'m>) -> Result<Stub<'a, 'm>, String> {
    let mut buf = [0; READ_BYTES];
    let read = match &mut stub {
        GdbStubStateMachine::Idle(inner) => inner.borrow_conn().read(&mut buf),
        GdbStubStateMachine::Running(inner) => inner.borrow_conn().read(&mut buf),
        GdbStubStateMachine::CtrlCInterrupt(_) | GdbStubStateMachine::Disconnected(_) => Ok(0),
    };
    let len = read.map_err(|error| error.to_string())?;
    for &byte in buf.iter().take(len) {
        stub = feed_byte(stub, target, byte).map_err(why)?;
    }
    Ok(stub)
}

fn feed_byte<'a, 'm>(
    stub: Stub<'a, 'm>,
    target: &mut Debugged<'m>,
    byte: u8,
) -> Result<Stub<'a, 'm>, StubError> {
    match stub {
        GdbStubStateMachine::Idle(inner) => inner.incoming_data(target, byte),
        GdbStubStateMachine::Running(inner) => inner.incoming_data(target, byte),
        GdbStubStateMachine::CtrlCInterrupt(inner) => {
            target.machine.stop();
            let none = None::<MultiThreadStopReason<u64>>;
            match inner.interrupt_handled(target, none)? {
                GdbStubStateMachine::Idle(inner) => inner.incoming_data(target, byte),
                GdbStubStateMachine::Running(inner) => inner.incoming_data(target, byte),
                other => Ok(other),
            }
        }
        ended @ GdbStubStateMachine::Disconnected(_) => Ok(ended),
    }
}

/// Waits until one of the descriptors is readable; tells which are.
fn wait<const N: usize>(fds: [BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds.map(|fd| fd.any().unwrap_or(false))),
        Err(errno) => Err(errno.into()),
    }
}

/// Why a session ends, in words.
fn why(error: StubError) -> String {
    match error.into_connection_error() {
        Some((error, _)) => error.to_string(),
        None => "the client broke gdb's protocol".to_owned(),
    }
}

/// gdb sends packets as long as it is told it may.
const PACKET_MAX: usize = 16 << 10;
const READ_BYTES: usize = 4096;
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_PAUSE: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
