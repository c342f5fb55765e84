//! The domain as a whole: every part of this crate behind the hypercall traits, with one method for
//! each thing that can happen to it.
//!
//! [`Domain::hypercall`] takes a hypercall, [`Domain::tick`] the passing of time, and so on. No
//! method waits. What the embedder has to do comes out as [`Effect`]s, what the calling vCPU has to
//! do as an [`Answer`]. Where several threads call, one lock around the domain, held for each call,
//! is enough.
//!
//! # Events
//!
//! The domain sets a vCPU's upcall flag before it gives the [`Effect`] that tells of it. The vector
//! that all vCPUs share ([`Effect::GlobalVector`]) is level-triggered: the embedder injects it
//! whenever the guest takes interrupts, and again as long as [`Domain::is_upcall_pending`]. A
//! vCPU's own vector ([`Effect::VcpuVector`]) is edge-triggered and goes through its local APIC.
//!
//! # Sleep
//!
//! A vCPU whose answer holds a [`Sleep`] does not run until an interrupt or [`Effect::Wake`] comes
//! for it. Before it runs again, for whatever reason, the embedder calls [`Domain::entered`].

mod act;
mod answer;
mod areas;
mod back_ends;
mod build;
mod calls;
mod config;
mod describe;
mod env;
mod input;
mod lifecycle;
mod log;
mod no_memory;
mod reset;
mod rings;
mod session;
mod signal;
mod timers;
mod vcpu;

use pvh_abi::{event_channel::Port, hvm::HvmParam, sched::ShutdownReason};
use pvh_hypercall::{Call, Width};
use pvh_memory::Frames;
use pvh_vcpu::{Orders, State, VcpuSet};
use pvh_xenstore::{Shutdown, Store};

use crate::parts::{
    event::{EventChannels, HostPort},
    grant::GrantTable,
    hvm::HvmState,
    memory::MemoryOps,
    runstate,
    shared_info::SharedInfo,
    store_ring::StoreRing,
    time::TimeInfo,
    vcpu_info::VcpuInfos,
};
#[cfg(feature = "trace")]
use crate::trace::{self, Recorder};
use env::Env;
use log::Log;
use no_memory::NoMemory;
use rings::Console;
use timers::Watchdogs;
use vcpu::VcpuData;

pub use answer::{Answer, Effect, Observe, Sleep};
pub use build::DomainError;
pub use config::{Config, Now, Origin};
#[cfg(feature = "trace")]
pub(crate) use input::BackEndInput;
pub(crate) use input::{Input, Output};

/// A PVH domain.
///
/// Guest memory is not part of it: each call brings it along, always the same one.
#[derive(Debug)]
pub struct Domain {
    config: Config,
    set: VcpuSet<Vec<pvh_vcpu::Vcpu>>,
    vcpus: Vec<VcpuData>,
    shared_info: SharedInfo,
    vcpu_infos: VcpuInfos,
    events: EventChannels,
    hvm: HvmState,
    grants: GrantTable,
    memory_ops: MemoryOps,
    time: TimeInfo,
    /// When the time gets its next stamp, in ns of system time.
    time_due_ns: u64,
    watchdogs: Watchdogs,
    has_runstate_flag: bool,
    console: Console,
    console_end: HostPort,
    store: Store,
    store_ring: StoreRing,
    store_end: HostPort,
    /// A ring was left before it was empty: the next tick, due at once, serves it again.
    has_ring_work: bool,
    log: Log,
    /// The reason of a shutdown, once there is one.
    reason: Option<ShutdownReason>,
    is_over: bool,
    /// vCPUs that the call which is served may have left down; empty between calls.
    parked: Vec<u32>,
    /// Whether calls wait for the embedder to observe vCPUs: not in traces of version 1.
    observes: bool,
    /// Whether the time is written every second: not in traces of versions 1 and 2.
    refreshes: bool,
    /// Whether one go of a call has a budget: not in traces up to version 3.
    has_budget: bool,
    /// Where its calls are recorded.
    #[cfg(feature = "trace")]
    recorder: Option<Recorder>,
}

/// The beginning.
impl Domain {
    /// Makes a domain as the toolstack does: two ports, the HVM parameters, the special pages, the
    /// store's keys and the grants of the two rings. vCPU 0 is up, and has yet to be
    /// [`entered`](Self::entered).
    ///
    /// # Errors
    ///
    /// [`DomainError`]; of memory, nothing but the special pages has been touched then.
    pub fn new(config: Config, memory: &dyn Frames, now: Now) -> Result<Self, DomainError> {
        Self::build(config, memory, now)
    }

    /// The same, and has every call recorded that changes the domain, this one included, if there
    /// is a recorder.
    ///
    /// # Errors
    ///
    /// [`DomainError`], as [`new`](Self::new).
    #[cfg(feature = "trace")]
    pub fn recorded(
        config: Config,
        memory: &dyn Frames,
        now: Now,
        recorder: Option<Recorder>,
    ) -> Result<Self, DomainError> {
        let Some(recorder) = recorder else {
            return Self::new(config, memory, now);
        };
        let mut domain = trace::record_new(&recorder, config, memory, now)?;
        domain.recorder = Some(recorder);
        Ok(domain)
    }
}

/// What the threads of vCPUs do. Calls for an unknown vCPU are ignored.
impl Domain {
    /// Tells what a vCPU's thread has to do now; registers are handed out once.
    pub fn orders(&mut self, vcpu: u32) -> Orders {
        let input = Input::Orders { vcpu };
        self.apply(&NoMemory, &mut Vec::new(), input).into()
    }

    /// Returns the lifecycle state of a vCPU; `None` if there is no such vCPU.
    #[must_use]
    pub fn lifecycle(&self, vcpu: u32) -> Option<State> {
        self.set.state(vcpu).ok()
    }

    /// A vCPU is about to run, after it slept, was down, or was never up: its sleep ends, its time
    /// is written anew, and a periodic timer that stood still goes on.
    pub fn entered(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        self.apply(memory, effects, Input::Entered { vcpu, now });
    }

    /// Runs a hypercall, or a bounded part of it.
    ///
    /// One go costs [`Budget::GO`](pvh_hypercall::Budget::GO) at most, and one element more, so that
    /// an embedder that calls under a lock keeps nobody waiting for long.
    /// [`Outcome::Again`](pvh_hypercall::Outcome::Again) holds what is left: hand it in again, for
    /// the same vCPU and before any other call of that vCPU. If the answer says whom to
    /// [`observe`](Answer::observe), do so first.
    pub fn hypercall(
        &mut self,
        memory: &dyn Frames,
        origin: &Origin<'_>,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        if self.is_recorded() {
            let origin = *origin;
            let input = Input::Hypercall { origin, call };
            return self.apply(memory, effects, input).into();
        }
        // The same by a shorter way: to move an input and an output costs 35 instructions.
        self.run_call(memory, origin, call, effects)
    }

    /// Latches the width of shared info, as a write of the hypercall page's MSR does, by the mode
    /// of the vCPU that wrote.
    pub fn hypercall_page_written(&mut self, memory: &dyn Frames, width: Width, now: Now) {
        let input = Input::HypercallPageWritten { width, now };
        self.apply(memory, &mut Vec::new(), input);
    }

    /// Takes a byte that the guest wrote to port 0xe9, and appends it to the current line of the
    /// log.
    pub fn debug_port(&mut self, byte: u8, effects: &mut Vec<Effect>) {
        self.apply(&NoMemory, effects, Input::DebugPort { byte });
    }

    /// Tells whether a vCPU's upcall flag is set.
    #[must_use]
    pub fn is_upcall_pending(&self, memory: &dyn Frames, vcpu: u32) -> bool {
        self.vcpu_infos
            .is_upcall_pending(memory, &self.shared_info, vcpu)
    }

    /// Returns the vector that every vCPU has for its upcalls.
    #[must_use]
    pub const fn global_vector(&self) -> Option<u8> {
        self.hvm.global_vector()
    }

    /// Returns the vector that a vCPU has for its own upcalls.
    #[must_use]
    pub fn vcpu_vector(&self, vcpu: u32) -> Option<u8> {
        self.hvm.vcpu_vector(vcpu)
    }

    /// Changes the runstate of a vCPU. The changes that follow from calls (a sleep, down, up, a
    /// wake) the domain makes itself.
    pub fn state_changed(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        state: runstate::RunState,
        now: Now,
    ) {
        let input = Input::StateChanged { vcpu, state, now };
        self.apply(memory, &mut Vec::new(), input);
    }

    /// Writes the time of a vCPU anew, with the stamp that all vCPUs have.
    pub fn update_time(&mut self, memory: &dyn Frames, vcpu: u32) {
        self.apply(memory, &mut Vec::new(), Input::UpdateTime { vcpu });
    }

    /// INIT came for a vCPU: it goes down, and can be given new registers.
    pub fn init(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        self.apply(memory, effects, Input::Init { vcpu, now });
    }

    /// The start-up interrupt came for a vCPU: one that has no registers starts in real mode.
    pub fn sipi(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        vector: u8,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.apply(memory, effects, Input::Sipi { vcpu, vector, now });
    }

    /// A vCPU was found running that is not up here: something below, such as KVM's local APIC, has
    /// started it. It is up from now on, with the registers it has. One that had registers here has
    /// got an INIT first, for a start-up interrupt starts nothing else.
    pub fn found_running(&mut self, memory: &dyn Frames, vcpu: u32, now: Now) {
        let input = Input::FoundRunning { vcpu, now };
        self.apply(memory, &mut Vec::new(), input);
    }

    /// A vCPU waits with its interrupts off (HLT with RFLAGS.IF clear): nothing but an NMI could
    /// wake it, so it goes down, and with the last one the domain powers off.
    pub fn halted(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        self.apply(memory, effects, Input::Halted { vcpu, now });
    }
}

/// Time, the console and the store.
impl Domain {
    /// Does what is due. While the guest has mapped shared info or registered a `vcpu_info`, that
    /// is once a second a new stamp in the time of every vCPU.
    pub fn tick(&mut self, memory: &dyn Frames, now: Now, effects: &mut Vec<Effect>) {
        self.apply(memory, effects, Input::Tick { now });
    }

    /// Returns the system time in ns at which the embedder has to call [`tick`](Self::tick) next;
    /// it may be past. Any other call may change it.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.earliest()
    }

    /// Gives the guest's console bytes to read, as many as fit, and returns how many. If that is
    /// not all, [`Effect::InputWanted`] tells when to try again.
    pub fn console_input(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> usize {
        self.apply(memory, effects, Input::Console { bytes, now })
            .into()
    }

    /// Returns the ports that the guest has for the store and for its console.
    #[must_use]
    pub fn service_ports(&self) -> [Option<Port>; 2] {
        [self.store_end, self.console_end].map(|end| self.events.host_peer(end))
    }
}

/// The end.
impl Domain {
    /// Tells whether the guest would notice a request to stop: it watches the key
    /// `control/shutdown`.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.watches_shutdown()
    }

    /// Asks the guest to stop, by the store's key `control/shutdown`.
    pub fn request_shutdown(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        kind: Shutdown,
        effects: &mut Vec<Effect>,
    ) {
        self.apply(memory, effects, Input::RequestShutdown { kind, now });
    }

    /// Tells whether the last request to stop still waits for the guest.
    #[must_use]
    pub fn is_request_pending(&self) -> bool {
        pvh_xenstore::pending_shutdown(&self.store, self.config.domid).is_some()
    }

    /// Ends the domain for a reason of the embedder, such as a triple fault. Text in the console's
    /// ring comes out first, even if the domain is over already: a guest that ends may not raise
    /// the console's event.
    pub fn end(
        &mut self,
        memory: &dyn Frames,
        reason: ShutdownReason,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.apply(memory, effects, Input::End { reason, now });
    }

    /// Returns the shutdown reason for a triple fault, which the guest may have chosen.
    #[must_use]
    pub fn triple_fault_reason(&self) -> ShutdownReason {
        let value = self.hvm.value(HvmParam::TRIPLE_FAULT_REASON);
        ShutdownReason(u8::try_from(value).unwrap_or(ShutdownReason::CRASH.0))
    }

    /// Tells whether the domain is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Domain {
    /// Tells whether inputs are recorded.
    #[cfg_attr(
        not(feature = "trace"),
        expect(clippy::unused_self, reason = "nothing records without the feature")
    )]
    const fn is_recorded(&self) -> bool {
        #[cfg(feature = "trace")]
        return self.recorder.is_some();
        #[cfg(not(feature = "trace"))]
        false
    }

    /// Does what an input says. Every change of a domain comes through here, so here they are
    /// recorded.
    fn apply(
        &mut self,
        memory: &dyn Frames,
        effects: &mut Vec<Effect>,
        input: Input<'_>,
    ) -> Output {
        #[cfg(feature = "trace")]
        if let Some(recorder) = self
            .recorder
            .clone()
            .filter(|recorder| !recorder.is_ended())
        {
            return trace::record(&recorder, self, memory, effects, input);
        }
        self.act(memory, effects, input)
    }
}
