//! Everything that can happen to a domain, as one type, and what comes of it.

use pvh_abi::{Errno, event_channel::Port, sched::ShutdownReason};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_vcpu::Orders;
use pvh_xenbus::Change;
use pvh_xenstore::{Shutdown, StoreError};

use super::{Answer, Now, Origin};
use crate::parts::{event::HostPort, runstate::RunState};

/// One call of a domain that changes it, with all that it is told but guest memory. The methods of
/// these names say more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    Orders {
        vcpu: u32,
    },
    Entered {
        vcpu: u32,
        now: Now,
    },
    Hypercall {
        origin: Origin<'a>,
        call: Call,
    },
    HypercallPageWritten {
        width: Width,
        now: Now,
    },
    DebugPort {
        byte: u8,
    },
    StateChanged {
        vcpu: u32,
        state: RunState,
        now: Now,
    },
    UpdateTime {
        vcpu: u32,
    },
    Init {
        vcpu: u32,
        now: Now,
    },
    Sipi {
        vcpu: u32,
        vector: u8,
        now: Now,
    },
    FoundRunning {
        vcpu: u32,
        now: Now,
    },
    Halted {
        vcpu: u32,
        now: Now,
    },
    Tick {
        now: Now,
    },
    Console {
        bytes: &'a [u8],
        now: Now,
    },
    RequestShutdown {
        kind: Shutdown,
        now: Now,
    },
    End {
        reason: ShutdownReason,
        now: Now,
    },
    BackEnd(BackEndInput<'a>),
}

/// The calls that back ends of the host make.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BackEndInput<'a> {
    ChangeStore { changes: &'a [Change], now: Now },
    BindPort { port: Port },
    NotifyPort { end: HostPort, now: Now },
    UnbindPort { end: HostPort },
}

/// What an input returns, beside its effects.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Nothing.
    Nothing,
    /// Of a hypercall.
    Answer(Answer),
    /// Of console input: how many bytes were taken.
    Count(usize),
    /// Of a vCPU's thread that asks.
    Orders(Box<Orders>),
    /// Of a change of the store.
    Stored(Result<(), StoreError>),
    /// Of a port that was to be bound.
    Bound(Result<HostPort, Errno>),
}

/// Each input has one kind of output; any other reads as the one that does nothing.
impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        match output {
            Output::Answer(answer) => answer,
            _ => Self {
                outcome: Outcome::Return(0),
                sleep: None,
                observe: None,
            },
        }
    }
}

impl From<Output> for usize {
    fn from(output: Output) -> Self {
        match output {
            Output::Count(count) => count,
            _ => 0,
        }
    }
}

impl From<Output> for Orders {
    fn from(output: Output) -> Self {
        match output {
            Output::Orders(orders) => *orders,
            _ => Self::End,
        }
    }
}

impl From<Output> for Result<(), StoreError> {
    fn from(output: Output) -> Self {
        match output {
            Output::Stored(stored) => stored,
            _ => Ok(()),
        }
    }
}

impl From<Output> for Result<HostPort, Errno> {
    fn from(output: Output) -> Self {
        match output {
            Output::Bound(bound) => bound,
            _ => Err(Errno::EINVAL),
        }
    }
}
