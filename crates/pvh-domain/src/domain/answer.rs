//! What comes out of a domain: answers for the calling vCPU, and effects for the embedder.

use pvh_abi::sched::ShutdownReason;
use pvh_hypercall::Outcome;

use crate::parts::event::HostPort;

#[cfg(doc)]
use super::Domain;

/// The result of a hypercall.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a result, and what follows it")]
pub struct Answer {
    /// The result for the guest's register, or what is left of the call.
    pub outcome: Outcome,
    /// Whether the calling vCPU sleeps now; only with [`Outcome::Return`].
    pub sleep: Option<Sleep>,
    /// Which vCPUs the embedder has to observe before it hands the rest in; only with
    /// [`Outcome::Again`].
    pub observe: Option<Observe>,
}

/// Which vCPUs a call depends on.
///
/// Where the embedder's local APICs start and reset vCPUs without a word, as KVM's do, the domain
/// does not know the state of a vCPU that is not calling. So before a call that depends on it, the
/// domain names the vCPU. For each vCPU named, the embedder looks what the vCPU does, and reports:
/// [`Domain::found_running`] if it runs that the domain has down, [`Domain::init`] if it was reset,
/// nothing if it is as before. Then it hands in the rest of the call, which is served. A call is
/// held up once; an embedder whose vCPUs start by the domain's orders only just hands it in again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a call is about one vCPU, or about all"
)]
pub enum Observe {
    /// This vCPU.
    Vcpu(u32),
    /// Every vCPU but the calling one.
    Others,
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
    /// Inject this vector into the vCPU, past its local APIC and with no EOI to come, whenever the
    /// vCPU takes interrupts, and again as long as [`Domain::is_upcall_pending`].
    GlobalVector {
        /// Which vCPU.
        vcpu: u32,
        /// The vector.
        vector: u8,
    },
    /// Send this vector to the vCPU's local APIC, once. If software has disabled that local APIC,
    /// send the vector when it is enabled again, provided [`Domain::is_upcall_pending`] then.
    VcpuVector {
        /// Which vCPU.
        vcpu: u32,
        /// The vector.
        vector: u8,
    },
    /// The vCPU sleeps no longer.
    Wake(u32),
    /// The vCPU is up and has registers to load: its thread has to ask [`Domain::orders`].
    Start(u32),
    /// The vCPU is up again: its thread has to ask [`Domain::orders`].
    Resume(u32),
    /// The vCPU is down: make it leave the guest; its thread has to ask [`Domain::orders`].
    Stop(u32),
    /// A call of another vCPU has left this one down: before that call returns to the guest, the
    /// thread of this vCPU is to have asked [`Domain::orders`] and to wait where it notices INIT,
    /// which the guest may send next.
    Park(u32),
    /// The guest prepares a vCPU that is down, by binding events to it or by registering its
    /// `vcpu_info`: INIT may come for it soon.
    StartExpected(u32),
    /// Send an NMI to the vCPU.
    Nmi(u32),
    /// Flush the TLBs of all vCPUs.
    FlushTlbs,
    /// Console output of the guest. Where several threads call, the pieces have to keep the order
    /// of the calls.
    Output(Vec<u8>),
    /// The guest has taken input from its console ring, which was full: there is room again.
    InputWanted,
    /// A line that the guest wrote to the hypervisor's log, without its newline. A guest may write
    /// as many as it likes.
    Log(Vec<u8>),
    /// The guest has raised the event of a port that is joined to this end: wake the back end that
    /// has [bound](Domain::bind_port) it. A guest may do so as often as it likes.
    Notified(HostPort),
    /// The domain is over; all its vCPUs stop. Given once, and never with the reason "soft reset",
    /// which the domain does itself before it goes on.
    Shutdown(ShutdownReason),
}
