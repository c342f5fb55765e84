//! What comes out of a domain: answers for the calling vCPU, and effects for the embedder.

use pvh_abi::sched::ShutdownReason;
use pvh_hypercall::Outcome;

#[cfg(doc)]
use super::Domain;

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
