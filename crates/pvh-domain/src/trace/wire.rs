//! What a trace holds, as it is encoded. Apart from the types that it mirrors, so that those may change.

use core::num::NonZeroU64;

use pvh_abi::{DomId, Gpa};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_memory::{FrameError, MemoryError, WordOp};
use pvh_vcpu::{CpuPolicy, Orders};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Answer, Config, Effect, Now, Sleep},
    runstate,
    xenstore::Shutdown,
};

/// One call of a domain: what went in, what it did to guest memory and saw there, and what came out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    pub(super) input: Input,
    pub(super) accesses: Vec<Access>,
    pub(super) output: Output,
    pub(super) effects: Vec<WireEffect>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Input {
    New {
        config: WireConfig,
        now: WireNow,
    },
    Hypercall {
        vcpu: u32,
        takes_interrupts: bool,
        now: WireNow,
        call: WireCall,
    },
    Tick(WireNow),
    Entered {
        vcpu: u32,
        now: WireNow,
    },
    StateChanged {
        vcpu: u32,
        state: u32,
        now: WireNow,
    },
    UpdateTime {
        vcpu: u32,
    },
    ConsoleInput {
        now: WireNow,
        bytes: Vec<u8>,
    },
    RequestShutdown {
        now: WireNow,
        kind: WireShutdown,
    },
    HypercallPageWritten {
        is_native: bool,
        now: WireNow,
    },
    DebugPort {
        byte: u8,
    },
    Orders {
        vcpu: u32,
    },
    Init {
        vcpu: u32,
        now: WireNow,
    },
    Sipi {
        vcpu: u32,
        vector: u8,
        now: WireNow,
    },
    FoundRunning {
        vcpu: u32,
        now: WireNow,
    },
    End {
        reason: u8,
        now: WireNow,
    },
}

/// One access to guest memory, with what it found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Access {
    IsRam {
        at: u64,
        len_bytes: u64,
        is_ram: bool,
    },
    Read {
        at: u64,
        len_bytes: u64,
        found: Result<Vec<u8>, WireMemoryError>,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
        found: Result<(), WireMemoryError>,
    },
    Word32 {
        at: u64,
        op: WireOp<u32>,
        found: Result<u32, WireMemoryError>,
    },
    Word64 {
        at: u64,
        op: WireOp<u64>,
        found: Result<u64, WireMemoryError>,
    },
    Zero {
        at: u64,
        len_bytes: u64,
        found: Result<(), WireMemoryError>,
    },
    AddFrames {
        start: u64,
        end: u64,
        found: Result<(), WireFrameError>,
    },
    RemoveFrames {
        start: u64,
        end: u64,
        found: Result<(), WireFrameError>,
    },
    CopyIn {
        linear: u64,
        len_bytes: u64,
        found: Option<Vec<u8>>,
    },
    CopyOut {
        linear: u64,
        bytes: Vec<u8>,
        is_done: bool,
    },
    Translate {
        linear: u64,
        found: Option<u64>,
    },
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Output {
    Nothing,
    Answer {
        outcome: WireOutcome,
        sleep: Option<WireSleep>,
    },
    Count(u64),
    Park,
    Over,
    Run(Option<Vec<u64>>),
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireEffect {
    GlobalVector { vcpu: u32, vector: u8 },
    VcpuVector { vcpu: u32, vector: u8 },
    Wake(u32),
    Start(u32),
    Resume(u32),
    Stop(u32),
    Nmi(u32),
    FlushTlbs,
    Output(Vec<u8>),
    InputWanted,
    Log(Vec<u8>),
    Shutdown(u8),
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireConfig {
    domid: u16,
    uuid: [u8; 16],
    name: String,
    vcpus: u32,
    cr4_bits: u64,
    efer_bits: u64,
    physical_address_bits: u8,
    tsc_hz: u64,
    is_tsc_stable: bool,
    memory_kib: u64,
    may_log: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireNow {
    system_ns: u64,
    tsc: u64,
    wall_ns: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireCall {
    is_native: bool,
    number: u64,
    args: [u64; 5],
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireOutcome {
    Return(i64),
    Again(WireCall),
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireSleep {
    Block,
    Poll,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireShutdown {
    PowerOff,
    Reboot,
    Halt,
    Suspend,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireOp<T> {
    Load,
    Swap(T),
    And(T),
    Or(T),
    CompareExchange {
        expected: T,
        new: T,
    },
    /// None that this version knows.
    Other,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireMemoryError {
    NotRam { at: u64, len_bytes: u64 },
    Misaligned { at: u64, size_bytes: u64 },
    Backend { at: u64 },
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireFrameError {
    Present { gfn: u64 },
    Absent { gfn: u64 },
    OutOfReach { gfn: u64 },
    Exhausted { limit: u64 },
    Backend { gfn: u64 },
}

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
            may_log: config.may_log,
        }
    }
}

impl WireConfig {
    /// The configuration, if it is one that a domain may be given.
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
            may_log: self.may_log,
        };
        is_sound.then_some(config)
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

pub(super) const fn width(is_native: bool) -> Width {
    if is_native {
        Width::Native
    } else {
        Width::Compat
    }
}

/// The state with that number; one that has none is offline.
pub(super) fn state(number: u32) -> runstate::State {
    use runstate::State::{Blocked, Offline, Runnable, Running};
    let all = [Running, Runnable, Blocked];
    let found = all.into_iter().find(|state| state.number() == number);
    found.unwrap_or(Offline)
}

impl From<Answer> for Output {
    fn from(answer: Answer) -> Self {
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

impl From<&Orders> for Output {
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
