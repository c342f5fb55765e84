//! One trait for each hypercall; a method that an embedder does not implement keeps its default,
//! which answers the ABI's own error.
//!
//! Arguments arrive checked as far as that needs no knowledge of the domain: copied once, in the
//! caller's layout, with unknown sub-operations refused. A method answers; how anything else
//! happens (a vCPU that sleeps, a domain that stops) is up to the embedder.

mod events;
mod grants;
mod hvm;
mod memory;
mod other;
mod sched;
mod toolstack;
mod vcpus;
mod version;

pub use events::{ControlBlock, EventChannels, PortState};
pub use grants::{CopySide, GrantMapping, GrantTable, GrantTableSize, MappedGrant};
pub use hvm::Hvm;
pub use memory::{
    Extents, ExtentsDone, MAX_MEMORY_MAP, MapRequest, Memory, MemoryMapEntries, memory_op,
};
pub use other::{Assist, Console, Timer};
pub use sched::{Ports, Sched};
pub use vcpus::{Runstate, Vcpus};
pub use version::Version;

pub(crate) use events::event_channel_op;
pub(crate) use grants::grant_table_op;
pub(crate) use hvm::hvm_op;
pub(crate) use other::{console_io, set_timer_op, vm_assist};
pub(crate) use sched::sched_op;
pub(crate) use vcpus::vcpu_op;
pub(crate) use version::xen_version;

/// The low 32 bits of an argument that the ABI takes as an `int`.
pub(crate) const fn low_32(argument: u64) -> u32 {
    let [b0, b1, b2, b3, ..] = argument.to_le_bytes();
    u32::from_le_bytes([b0, b1, b2, b3])
}

/// A count as a result; no count is above `i64::MAX`.
pub(crate) fn as_result(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The most elements of a guest's list that one call of `dispatch` works on; see
/// [`Outcome::Again`](crate::Outcome::Again).
pub(crate) const ELEMENTS_PER_CALL: u64 = 256;
