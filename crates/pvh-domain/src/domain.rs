//! The domain as a whole: every part of this crate behind the hypercall traits, one call for each thing that can happen
//! to it.
//!
//! [`Domain::hypercall`] takes a hypercall, [`Domain::tick`] the passing of time, and so on. Each call is over at once: what has to
//! happen outside comes out as [`Effect`]s, what the calling vCPU has to do as an [`Answer`]. One lock around a domain,
//! held for each call, is all that several threads need.
//!
//! # Events
//!
//! A vCPU's upcall flag is set before the [`Effect`] that tells of it is given. A vector of all vCPUs
//! ([`Effect::GlobalVector`]) is a level: it is to be injected whenever the guest takes interrupts, and again after that,
//! while [`Domain::is_upcall_pending`]. A vCPU's own ([`Effect::VcpuVector`]) is an edge into its local APIC.
//!
//! # Sleep
//!
//! A vCPU whose answer holds a [`Sleep`] is not to run until an interrupt comes for it or [`Effect::Wake`] does; before it
//! runs again, for whatever reason, [`Domain::entered`] is to be called.

mod areas;
mod build;
mod calls;
mod lifecycle;
mod log;
mod reset;
mod rings;
mod scene;
mod session;
mod signal;
mod timers;
mod vcpu;

use core::num::NonZeroU64;

use pvh_abi::{DomId, event_channel::Port, sched::ShutdownReason};
use pvh_hypercall::{Call, GuestIo, Outcome};
use pvh_memory::Frames;
use pvh_vcpu::{CpuPolicy, VcpuSet};
use pvh_xenstore::Store;

use crate::{
    event::{EventChannels, HostPort},
    grant::GrantTable,
    hvm::HvmState,
    memory::{self, MemoryOps},
    shared_info::SharedInfo,
    store_ring::StoreRing,
    time::TimeInfo,
    vcpu_info::VcpuInfos,
};
use log::Log;
use rings::Console;
use scene::Scene;
use session::Session;
use timers::Watchdogs;
use vcpu::VcpuData;

pub use build::DomainError;

/// What a domain is made with.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct Config {
    /// Its id; not 0, which is the embedder's.
    pub domid: DomId,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its name, for the store.
    pub name: String,
    /// How many vCPUs it has, 1 to 128.
    pub vcpus: u32,
    /// What its CPU may be told by `VCPUOP_initialise`.
    pub cpu: CpuPolicy,
    /// How often its TSC ticks in a second.
    pub tsc_hz: NonZeroU64,
    /// Whether the TSCs of all vCPUs agree for as long as it lives, so that the guest may compare them.
    pub is_tsc_stable: bool,
    /// How much RAM it begins with, in KiB, for the store.
    pub memory_kib: u64,
    /// Its memory, as it is told to it.
    pub memory: memory::Config,
    /// Whether `console_io` writes to the log; else it is EPERM, as in a release build of Xen.
    pub may_log: bool,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the three clocks a guest sees")]
pub struct Now {
    /// System time in ns: what [`TimeInfo`] makes of `tsc`. It never goes back.
    pub system_ns: u64,
    /// The guest's TSC at that moment.
    pub tsc: u64,
    /// Wall time, in ns since 1970, UTC.
    pub wall_ns: u64,
}

/// Who makes a hypercall, and when.
#[derive(Clone, Copy)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct Origin<'a> {
    /// The calling vCPU.
    pub vcpu: u32,
    /// Guest memory as it maps it.
    pub io: &'a dyn GuestIo,
    /// Whether it takes interrupts: RFLAGS.IF.
    pub takes_interrupts: bool,
    /// The moment of the call.
    pub now: Now,
}

impl core::fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Origin")
            .field("vcpu", &self.vcpu)
            .field("takes_interrupts", &self.takes_interrupts)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What a hypercall came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a result, and what follows it")]
pub struct Answer {
    /// The result for the guest's register, or what is left of the call.
    pub outcome: Outcome,
    /// Whether the calling vCPU sleeps now; only with [`Outcome::Return`].
    pub sleep: Option<Sleep>,
}

/// How a vCPU sleeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "sched_op has these two")]
pub enum Sleep {
    /// Until an interrupt or [`Effect::Wake`].
    Block,
    /// The same; its timeout, if any, is one of the domain's deadlines.
    Poll,
}

/// What the embedder has to do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Inject this vector into the vCPU, past its local APIC and with no EOI to come, whenever it takes interrupts, and again
    /// while [`Domain::is_upcall_pending`].
    GlobalVector {
        /// Which vCPU.
        vcpu: u32,
        /// The vector.
        vector: u8,
    },
    /// Send this vector to the vCPU's local APIC, once. If that is disabled by software, do so when it is enabled, if
    /// [`Domain::is_upcall_pending`] then.
    VcpuVector {
        /// Which vCPU.
        vcpu: u32,
        /// The vector.
        vector: u8,
    },
    /// The vCPU sleeps no longer.
    Wake(u32),
    /// The vCPU is up, with registers: its thread is to ask [`Domain::orders`].
    Start(u32),
    /// The vCPU is up again: its thread is to ask [`Domain::orders`].
    Resume(u32),
    /// The vCPU is down: make it leave the guest; its thread is to ask [`Domain::orders`].
    Stop(u32),
    /// Send an NMI to the vCPU.
    Nmi(u32),
    /// Flush the TLBs of all vCPUs.
    FlushTlbs,
    /// What the guest wrote to its console. Where several threads call, the pieces have to keep the order of the calls.
    Output(Vec<u8>),
    /// The guest took input from its console, after some had not fit.
    InputWanted,
    /// A line of the guest's for the hypervisor's log, without its newline. A guest may write as many as it likes.
    Log(Vec<u8>),
    /// The domain is over; all its vCPUs stop. Given once, and never with the reason "soft reset": that the domain does
    /// itself, and goes on.
    Shutdown(ShutdownReason),
}

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
    watchdogs: Watchdogs,
    marks_runstate: bool,
    console: Console,
    console_end: HostPort,
    store: Store,
    store_ring: StoreRing,
    store_end: HostPort,
    /// A ring was left before its end: it is served again at once.
    rings_again: bool,
    log: Log,
    /// The reason of a shutdown, once there is one.
    reason: Option<ShutdownReason>,
    is_over: bool,
}

impl Domain {
    /// Runs a hypercall, or a bounded part of it.
    ///
    /// [`Outcome::Again`] holds what is left: hand it in again, for the same vCPU and before any other call of its.
    pub fn hypercall(
        &mut self,
        memory: &dyn Frames,
        origin: &Origin<'_>,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let scene = Scene {
            memory,
            now: origin.now,
            effects,
        };
        Session::new(self, scene, origin, call.width).run(call)
    }

    /// Does what is due.
    pub fn tick(&mut self, memory: &dyn Frames, now: Now, effects: &mut Vec<Effect>) {
        self.run_due(&mut Scene {
            memory,
            now,
            effects,
        });
    }

    /// Tells the system time at which [`tick`](Self::tick) is to be called next; it may be past. Any other call may change it.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.earliest()
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

    /// Latches the width of shared info, as a write of the hypercall page's MSR does, by the mode of the vCPU that wrote.
    pub fn hypercall_page_written(
        &mut self,
        memory: &dyn Frames,
        width: pvh_hypercall::Width,
        now: Now,
    ) {
        self.latch(memory, width, now);
    }

    /// Returns the ports that the guest has for the store and for its console.
    #[must_use]
    pub fn service_ports(&self) -> [Option<Port>; 2] {
        [self.store_end, self.console_end].map(|end| self.events.host_peer(end))
    }
}
