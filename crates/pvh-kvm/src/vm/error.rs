//! Why a machine cannot be created, or refused a request.

use std::io;

use pvh_abi::Gpa;

/// Why a machine cannot be built, or refused a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// The number of vCPUs is 0, above KVM's limit, or above what its APIC ids can name.
    #[error("this machine can have 1 to {limit} vCPUs, not {vcpus}")]
    VcpuCount {
        /// The number asked for.
        vcpus: u32,
        /// The largest number on this host.
        limit: u32,
    },
    /// RAM ends above the highest address that this host's KVM lets a guest use.
    #[error(
        "guest memory ends at {end}, above the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// The first address after RAM.
        end: Gpa,
        /// The width of a guest-physical address in bits.
        address_bits: u8,
    },
    /// RAM needs more memory slots than KVM has.
    #[error("guest memory needs {slots} memory slots; this host's KVM has {limit}")]
    MemorySlots {
        /// The number needed.
        slots: usize,
        /// The number KVM has.
        limit: u32,
    },
    /// The APIC id of the vCPU does not fit into an interrupt message.
    #[error("vCPU {index} cannot get an interrupt message: its APIC id is above 254")]
    ApicId {
        /// The vCPU.
        index: u32,
    },
    /// The host's KVM lacks a capability that this machine needs.
    #[error("this host's KVM lacks {capability}")]
    Capability {
        /// KVM's name of the capability.
        capability: &'static str,
    },
    /// A call to the host failed.
    #[error("{step} failed")]
    Host {
        /// The call.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Returns a function that turns the host's error into [`VmError::Host`], with the call's name.
pub(super) fn host<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> VmError {
    move |error| VmError::Host {
        step,
        source: error.into(),
    }
}
