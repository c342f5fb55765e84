//! Inputs of a domain, to and from those of a trace.

use pvh_abi::sched::ShutdownReason;
use pvh_hypercall::{GuestIo, Width};
use pvh_xenbus::Change;

use super::width;
use crate::{
    RunState, Shutdown,
    domain::{Input, Origin},
    trace::wire::{WireInput, WireShutdown},
};

impl From<Input<'_>> for WireInput {
    fn from(input: Input<'_>) -> Self {
        match input {
            Input::Orders { vcpu } => Self::Orders { vcpu },
            Input::Entered { vcpu, now } => Self::Entered {
                vcpu,
                now: now.into(),
            },
            Input::Hypercall { origin, call } => Self::Hypercall {
                vcpu: origin.vcpu,
                takes_interrupts: origin.takes_interrupts,
                now: origin.now.into(),
                call: call.into(),
            },
            Input::HypercallPageWritten { width, now } => Self::HypercallPageWritten {
                is_native: width == Width::Native,
                now: now.into(),
            },
            Input::DebugPort { byte } => Self::DebugPort { byte },
            Input::StateChanged { vcpu, state, now } => Self::StateChanged {
                vcpu,
                state: state.number(),
                now: now.into(),
            },
            Input::UpdateTime { vcpu } => Self::UpdateTime { vcpu },
            Input::Init { vcpu, now } => Self::Init {
                vcpu,
                now: now.into(),
            },
            Input::Sipi { vcpu, vector, now } => Self::Sipi {
                vcpu,
                vector,
                now: now.into(),
            },
            Input::FoundRunning { vcpu, now } => Self::FoundRunning {
                vcpu,
                now: now.into(),
            },
            Input::Halted { vcpu, now } => Self::Halted {
                vcpu,
                now: now.into(),
            },
            Input::Tick { now } => Self::Tick(now.into()),
            Input::Console { bytes, now } => Self::Typed {
                bytes: bytes.to_vec(),
                now: now.into(),
            },
            Input::RequestShutdown { kind, now } => Self::RequestShutdown {
                kind: kind.into(),
                now: now.into(),
            },
            Input::End { reason, now } => Self::End {
                reason: reason.0,
                now: now.into(),
            },
            Input::BackEnd(input) => input.into(),
        }
    }
}

impl WireInput {
    /// The input, of a vCPU that sees memory through `io`, with what [`changes`](Self::changes)
    /// returns; `None` for the making of a domain.
    pub(in crate::trace) fn input<'a>(
        &'a self,
        io: &'a dyn GuestIo,
        changes: &'a [Change],
    ) -> Option<Input<'a>> {
        Some(match *self {
            Self::Hypercall {
                vcpu,
                takes_interrupts,
                now,
                call,
            } => Input::Hypercall {
                origin: Origin {
                    vcpu,
                    io,
                    takes_interrupts,
                    now: now.into(),
                },
                call: call.into(),
            },
            Self::HypercallPageWritten { is_native, now } => Input::HypercallPageWritten {
                width: width(is_native),
                now: now.into(),
            },
            Self::DebugPort { byte } => Input::DebugPort { byte },
            Self::Tick(now) => Input::Tick { now: now.into() },
            Self::Typed { now, ref bytes } => Input::Console {
                bytes,
                now: now.into(),
            },
            Self::RequestShutdown { now, kind } => Input::RequestShutdown {
                kind: kind.into(),
                now: now.into(),
            },
            Self::End { reason, now } => Input::End {
                reason: ShutdownReason(reason),
                now: now.into(),
            },
            _ => return self.back_end_input(changes).or_else(|| self.vcpu_input()),
        })
    }

    /// The same for what happens to a vCPU.
    fn vcpu_input(&self) -> Option<Input<'static>> {
        Some(match *self {
            Self::Orders { vcpu } => Input::Orders { vcpu },
            Self::Entered { vcpu, now } => Input::Entered {
                vcpu,
                now: now.into(),
            },
            Self::StateChanged {
                vcpu,
                state: number,
                now,
            } => Input::StateChanged {
                vcpu,
                state: state(number),
                now: now.into(),
            },
            Self::UpdateTime { vcpu } => Input::UpdateTime { vcpu },
            Self::Init { vcpu, now } => Input::Init {
                vcpu,
                now: now.into(),
            },
            Self::Sipi { vcpu, vector, now } => Input::Sipi {
                vcpu,
                vector,
                now: now.into(),
            },
            Self::FoundRunning { vcpu, now } => Input::FoundRunning {
                vcpu,
                now: now.into(),
            },
            Self::Halted { vcpu, now } => Input::Halted {
                vcpu,
                now: now.into(),
            },
            _ => return None,
        })
    }
}

impl From<Shutdown> for WireShutdown {
    fn from(kind: Shutdown) -> Self {
        match kind {
            Shutdown::PowerOff => Self::PowerOff,
            Shutdown::Reboot => Self::Reboot,
            Shutdown::Halt => Self::Halt,
            Shutdown::Suspend => Self::Suspend,
        }
    }
}

impl From<WireShutdown> for Shutdown {
    fn from(kind: WireShutdown) -> Self {
        match kind {
            WireShutdown::PowerOff => Self::PowerOff,
            WireShutdown::Reboot => Self::Reboot,
            WireShutdown::Halt => Self::Halt,
            WireShutdown::Suspend => Self::Suspend,
        }
    }
}

/// The state with that number; an unknown number is offline.
fn state(number: u32) -> RunState {
    use RunState::{Blocked, Offline, Runnable, Running};
    let all = [Running, Runnable, Blocked];
    let found = all.into_iter().find(|state| state.number() == number);
    found.unwrap_or(Offline)
}
