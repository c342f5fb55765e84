//! What a trace holds, as it is encoded. Apart from the types that it mirrors, so that those may
//! change.
//!
//! Variants are encoded by their place: a new one stands last, so that traces of before keep their
//! meaning.

use serde::{Deserialize, Serialize};

/// One call of a domain: what went in, what it did to guest memory and saw there, and what came
/// out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    pub(super) input: WireInput,
    pub(super) accesses: Vec<Access>,
    pub(super) output: WireOutput,
    pub(super) effects: Vec<WireEffect>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireInput {
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
    Typed {
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
    Halted {
        vcpu: u32,
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
    /// Since version 4, as those below.
    ChangeStore {
        changes: Vec<WireChange>,
        now: WireNow,
    },
    BindPort {
        port: u32,
    },
    NotifyPort {
        end: u32,
        now: WireNow,
    },
    UnbindPort {
        end: u32,
    },
    /// Since version 5: a domain of another Xen than 4.17, which [`New`](Self::New) makes.
    NewOf {
        config: WireConfig,
        now: WireNow,
        major: u16,
        minor: u16,
    },
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireChange {
    Write {
        path: String,
        value: String,
    },
    Permit {
        path: String,
        /// Domain and rights of each entry: reading is 1, writing 2.
        permissions: Vec<(u16, u8)>,
    },
    Remove {
        path: String,
    },
}

/// One access to guest memory, and what it found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Access {
    pub(super) request: Request,
    pub(super) found: Found,
}

/// What is asked of guest memory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Request {
    IsRam {
        at: u64,
        len_bytes: u64,
    },
    Read {
        at: u64,
        len_bytes: u64,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Word32 {
        at: u64,
        op: WireOp<u32>,
    },
    Word64 {
        at: u64,
        op: WireOp<u64>,
    },
    Zero {
        at: u64,
        len_bytes: u64,
    },
    AddFrames {
        start: u64,
        end: u64,
    },
    RemoveFrames {
        start: u64,
        end: u64,
    },
    CopyIn {
        linear: u64,
        len_bytes: u64,
    },
    CopyOut {
        linear: u64,
        bytes: Vec<u8>,
    },
    Translate {
        linear: u64,
    },
    /// Since version 4.
    CheckAdd {
        start: u64,
        end: u64,
    },
    /// Since version 4.
    NextStep {
        start: u64,
        end: u64,
    },
}

/// What guest memory answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Found {
    Done,
    Is(bool),
    Bytes(Vec<u8>),
    Word(u64),
    /// The linear address is not mapped.
    Fault,
    Memory(WireMemoryError),
    Frame(WireFrameError),
    /// Since version 4.
    Step {
        frames: u64,
        takes_slot: bool,
    },
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireOutput {
    Nothing,
    Answer {
        outcome: WireOutcome,
        sleep: Option<WireSleep>,
    },
    Count(u64),
    Park,
    Over,
    Run(Option<Vec<u64>>),
    /// Since version 2.
    Observe {
        rest: WireCall,
        whom: WireObserve,
    },
    /// Since version 4: the error of a call of a back end.
    Refused(u16),
    /// Since version 4.
    Bound(u32),
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireObserve {
    Vcpu(u32),
    Others,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum WireEffect {
    GlobalVector {
        vcpu: u32,
        vector: u8,
    },
    VcpuVector {
        vcpu: u32,
        vector: u8,
    },
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
    /// Since version 2.
    Park(u32),
    /// Since version 2.
    StartExpected(u32),
    /// Since version 4.
    Notified(u32),
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireConfig {
    pub(super) domid: u16,
    pub(super) uuid: [u8; 16],
    pub(super) name: String,
    pub(super) vcpus: u32,
    pub(super) cr4_bits: u64,
    pub(super) efer_bits: u64,
    pub(super) physical_address_bits: u8,
    pub(super) tsc_hz: u64,
    pub(super) is_tsc_stable: bool,
    pub(super) memory_kib: u64,
    pub(super) memory: WireMemory,
    pub(super) may_log: bool,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireMemory {
    pub(super) pages: u64,
    pub(super) max_pages: u64,
    pub(super) max_gfn: u64,
    pub(super) host_pages: u64,
    /// Address, length and kind of each entry.
    pub(super) memory_map: Vec<(u64, u64, u32)>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireNow {
    pub(super) system_ns: u64,
    pub(super) tsc: u64,
    pub(super) wall_ns: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct WireCall {
    pub(super) is_native: bool,
    pub(super) number: u64,
    pub(super) args: [u64; 5],
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
    /// An operation that this version does not know.
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
