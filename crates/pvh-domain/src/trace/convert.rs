//! Conversions between the types of a trace and those of a domain.

use core::num::NonZeroU64;

use pvh_abi::{DomId, Gpa, memory::E820Entry, sched::ShutdownReason};
use pvh_hypercall::{Call, GuestIo, Outcome, Width};
use pvh_memory::{FrameError, MemoryError, WordOp};
use pvh_vcpu::{CpuPolicy, Orders};
use pvh_xenbus::Change;

use super::wire::{
    Found, WireCall, WireConfig, WireEffect, WireFrameError, WireInput, WireMemory,
    WireMemoryError, WireNow, WireObserve, WireOp, WireOutcome, WireOutput, WireShutdown,
    WireSleep,
};
use crate::{
    MemoryConfig, RunState, Shutdown,
    domain::{Answer, Config, Effect, Input, Now, Observe, Origin, Output, Sleep},
};

impl From<&Config> for WireConfig {
    fn from(config: &Config) -> Self {
        Self {
            domid: config.domid.0,
            uuid: config.uuid,
            name: config.name.clone(),
            vcpus: config.vcpus,
            cr4_bits: config.cpu.cr4_bits,
            efer_bits: config.cpu.efer_bits,
            physical_address_bits: config.cpu.physical_address_bits,
            tsc_hz: config.tsc_hz.get(),
            is_tsc_stable: config.is_tsc_stable,
            memory_kib: config.memory_kib,
            memory: WireMemory::from(&config.memory),
            may_log: config.may_log,
        }
    }
}

impl WireConfig {
    /// The configuration, if a domain can have it.
    pub(super) fn config(&self) -> Option<Config> {
        let bits = self.physical_address_bits;
        let is_sound = (32..=52).contains(&bits) && self.domid != 0;
        let cpu = CpuPolicy {
            cr4_bits: self.cr4_bits,
            efer_bits: self.efer_bits,
            physical_address_bits: bits,
        };
        let config = Config {
            domid: DomId(self.domid),
            uuid: self.uuid,
            name: self.name.clone(),
            vcpus: self.vcpus,
            cpu,
            tsc_hz: NonZeroU64::new(self.tsc_hz)?,
            is_tsc_stable: self.is_tsc_stable,
            memory_kib: self.memory_kib,
            memory: MemoryConfig::from(&self.memory),
            may_log: self.may_log,
        };
        is_sound.then_some(config)
    }
}

impl From<&MemoryConfig> for WireMemory {
    fn from(config: &MemoryConfig) -> Self {
        let entries = config.memory_map.iter();
        let entries = entries.map(|entry| (entry.addr.get(), entry.size.get(), entry.kind.get()));
        Self {
            pages: config.pages,
            max_pages: config.max_pages,
            max_gfn: config.max_gfn,
            host_pages: config.host_pages,
            memory_map: entries.collect(),
        }
    }
}

impl From<&WireMemory> for MemoryConfig {
    fn from(config: &WireMemory) -> Self {
        let entries = config.memory_map.iter();
        let entries = entries.map(|&(addr, size, kind)| E820Entry {
            addr: addr.into(),
            size: size.into(),
            kind: kind.into(),
        });
        Self {
            pages: config.pages,
            max_pages: config.max_pages,
            max_gfn: config.max_gfn,
            host_pages: config.host_pages,
            memory_map: entries.collect(),
        }
    }
}

impl From<Now> for WireNow {
    fn from(now: Now) -> Self {
        let Now {
            system_ns,
            tsc,
            wall_ns,
        } = now;
        Self {
            system_ns,
            tsc,
            wall_ns,
        }
    }
}

impl From<WireNow> for Now {
    fn from(now: WireNow) -> Self {
        let WireNow {
            system_ns,
            tsc,
            wall_ns,
        } = now;
        Self {
            system_ns,
            tsc,
            wall_ns,
        }
    }
}

impl From<Call> for WireCall {
    fn from(call: Call) -> Self {
        Self {
            is_native: call.width == Width::Native,
            number: call.number.0,
            args: call.args,
        }
    }
}

impl From<WireCall> for Call {
    fn from(call: WireCall) -> Self {
        Self::new(width(call.is_native), call.number, call.args)
    }
}

const fn width(is_native: bool) -> Width {
    if is_native {
        Width::Native
    } else {
        Width::Compat
    }
}

/// The state with that number; an unknown number is offline.
fn state(number: u32) -> RunState {
    use RunState::{Blocked, Offline, Runnable, Running};
    let all = [Running, Runnable, Blocked];
    let found = all.into_iter().find(|state| state.number() == number);
    found.unwrap_or(Offline)
}

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
    pub(super) fn input<'a>(
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

impl From<&Output> for WireOutput {
    fn from(output: &Output) -> Self {
        match output {
            Output::Nothing => Self::Nothing,
            Output::Answer(answer) => (*answer).into(),
            Output::Count(count) => Self::Count(*count as u64),
            Output::Orders(orders) => orders.as_ref().into(),
            Output::Stored(Ok(())) => Self::Nothing,
            Output::Stored(Err(error)) => Self::Refused(error.errno.0),
            Output::Bound(Ok(end)) => Self::Bound(end.0),
            Output::Bound(Err(errno)) => Self::Refused(errno.0),
        }
    }
}

impl From<Answer> for WireOutput {
    fn from(answer: Answer) -> Self {
        if let (Outcome::Again(rest), Some(whom)) = (answer.outcome, answer.observe) {
            return Self::Observe {
                rest: rest.into(),
                whom: match whom {
                    Observe::Vcpu(vcpu) => WireObserve::Vcpu(vcpu),
                    Observe::Others => WireObserve::Others,
                },
            };
        }
        Self::Answer {
            outcome: match answer.outcome {
                Outcome::Return(value) => WireOutcome::Return(value),
                Outcome::Again(call) => WireOutcome::Again(call.into()),
            },
            sleep: answer.sleep.map(|sleep| match sleep {
                Sleep::Block => WireSleep::Block,
                Sleep::Poll => WireSleep::Poll,
            }),
        }
    }
}

impl From<&Orders> for WireOutput {
    fn from(orders: &Orders) -> Self {
        let Orders::Run(state) = orders else {
            return match orders {
                Orders::Park => Self::Park,
                _ => Self::Over,
            };
        };
        let words = state.as_ref().map(|s| {
            let segments = [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.tr, s.ldtr];
            let segments = segments.into_iter().flat_map(|segment| {
                let (selector, bits) = (segment.selector.into(), segment.attributes.bits().into());
                [selector, segment.base, segment.limit.into(), bits]
            });
            let registers = [
                s.rax, s.rbx, s.rcx, s.rdx, s.rsi, s.rdi, s.rsp, s.rbp, s.r8, s.r9, s.r10, s.r11,
                s.r12, s.r13, s.r14, s.r15, s.rip, s.rflags, s.cr0, s.cr2, s.cr3, s.cr4, s.efer,
                s.dr6, s.dr7,
            ];
            let tables = [s.gdtr, s.idtr];
            let tables = tables.map(|table| [table.base, table.limit.into()]);
            let all = registers.into_iter().chain(segments);
            all.chain(tables.into_iter().flatten()).collect()
        });
        Self::Run(words)
    }
}

impl From<&Effect> for WireEffect {
    fn from(effect: &Effect) -> Self {
        match *effect {
            Effect::GlobalVector { vcpu, vector } => Self::GlobalVector { vcpu, vector },
            Effect::VcpuVector { vcpu, vector } => Self::VcpuVector { vcpu, vector },
            Effect::Wake(vcpu) => Self::Wake(vcpu),
            Effect::Start(vcpu) => Self::Start(vcpu),
            Effect::Resume(vcpu) => Self::Resume(vcpu),
            Effect::Stop(vcpu) => Self::Stop(vcpu),
            Effect::Nmi(vcpu) => Self::Nmi(vcpu),
            Effect::FlushTlbs => Self::FlushTlbs,
            Effect::Output(ref bytes) => Self::Output(bytes.clone()),
            Effect::InputWanted => Self::InputWanted,
            Effect::Log(ref line) => Self::Log(line.clone()),
            Effect::Shutdown(reason) => Self::Shutdown(reason.0),
            Effect::Park(vcpu) => Self::Park(vcpu),
            Effect::StartExpected(vcpu) => Self::StartExpected(vcpu),
            Effect::Notified(end) => Self::Notified(end.0),
        }
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

impl<T> From<WordOp<T>> for WireOp<T> {
    fn from(op: WordOp<T>) -> Self {
        match op {
            WordOp::Load => Self::Load,
            WordOp::Swap(new) => Self::Swap(new),
            WordOp::And(mask) => Self::And(mask),
            WordOp::Or(bits) => Self::Or(bits),
            WordOp::CompareExchange { expected, new } => Self::CompareExchange { expected, new },
            _ => Self::Other,
        }
    }
}

impl From<MemoryError> for WireMemoryError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::NotRam { at, len_bytes } => Self::NotRam {
                at: at.0,
                len_bytes,
            },
            MemoryError::Misaligned { at, size_bytes } => Self::Misaligned {
                at: at.0,
                size_bytes,
            },
            MemoryError::Backend { at } => Self::Backend { at: at.0 },
            _ => Self::Backend { at: u64::MAX },
        }
    }
}

impl From<WireMemoryError> for MemoryError {
    fn from(error: WireMemoryError) -> Self {
        match error {
            WireMemoryError::NotRam { at, len_bytes } => Self::NotRam {
                at: Gpa(at),
                len_bytes,
            },
            WireMemoryError::Misaligned { at, size_bytes } => Self::Misaligned {
                at: Gpa(at),
                size_bytes,
            },
            WireMemoryError::Backend { at } => Self::Backend { at: Gpa(at) },
        }
    }
}

impl From<FrameError> for WireFrameError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Present { gfn } => Self::Present { gfn },
            FrameError::Absent { gfn } => Self::Absent { gfn },
            FrameError::OutOfReach { gfn } => Self::OutOfReach { gfn },
            FrameError::Exhausted { limit } => Self::Exhausted { limit },
            FrameError::Backend { gfn } => Self::Backend { gfn },
            _ => Self::Backend { gfn: u64::MAX },
        }
    }
}

impl From<WireFrameError> for FrameError {
    fn from(error: WireFrameError) -> Self {
        match error {
            WireFrameError::Present { gfn } => Self::Present { gfn },
            WireFrameError::Absent { gfn } => Self::Absent { gfn },
            WireFrameError::OutOfReach { gfn } => Self::OutOfReach { gfn },
            WireFrameError::Exhausted { limit } => Self::Exhausted { limit },
            WireFrameError::Backend { gfn } => Self::Backend { gfn },
        }
    }
}

impl From<Result<(), MemoryError>> for Found {
    fn from(found: Result<(), MemoryError>) -> Self {
        found.map_or_else(Self::from, |()| Self::Done)
    }
}

impl From<Result<(), FrameError>> for Found {
    fn from(found: Result<(), FrameError>) -> Self {
        found.map_or_else(|error| Self::Frame(error.into()), |()| Self::Done)
    }
}

impl From<MemoryError> for Found {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_error_comes_back_as_it_was() {
        for error in [
            MemoryError::NotRam {
                at: Gpa(0x1000),
                len_bytes: 16,
            },
            MemoryError::Misaligned {
                at: Gpa(0x1004),
                size_bytes: 8,
            },
            MemoryError::Backend { at: Gpa(0x2000) },
        ] {
            assert_eq!(MemoryError::from(WireMemoryError::from(error)), error);
        }
    }

    #[test]
    fn a_frame_error_comes_back_as_it_was() {
        for error in [
            FrameError::Present { gfn: 5 },
            FrameError::Absent { gfn: 6 },
            FrameError::OutOfReach { gfn: 7 },
            FrameError::Exhausted { limit: 8 },
            FrameError::Backend { gfn: 9 },
        ] {
            assert_eq!(FrameError::from(WireFrameError::from(error)), error);
        }
    }
}
