//! Why a machine cannot be built, or refused a request.

use std::io;

use pvh_abi::Gpa;

/// Why a machine cannot be built, or refused a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// There are no vCPUs, more than KVM can have, or more than its APIC ids can name.
    #[error("{vcpus} vCPUs: this host's KVM can have 1 to {limit}")]
    VcpuCount {
        /// How many were asked for.
        vcpus: u32,
        /// The most this host can have.
        limit: u32,
    },
    /// The RAM reaches beyond what this host's KVM lets a guest address.
    #[error(
        "guest memory ends at {end}, beyond the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// First address after the RAM.
        end: Gpa,
        /// Width of a guest-physical address.
        address_bits: u8,
    },
    /// The RAM takes more memory slots than there are.
    #[error("guest memory takes {slots} memory slots, this host's KVM has {limit}")]
    MemorySlots {
        /// How many it takes.
        slots: usize,
        /// How many there are.
        limit: u32,
    },
    /// An interrupt cannot be sent to a vCPU: its APIC id does not fit a message.
    #[error("vCPU {index} has an APIC id that no interrupt message can name")]
    ApicId {
        /// The vCPU.
        index: u32,
    },
    /// The host's KVM lacks something that this machine needs.
    #[error("this host's KVM lacks {capability}")]
    Capability {
        /// KVM's name for it.
        capability: &'static str,
    },
    /// A call to the host failed.
    #[error("{step} failed")]
    Host {
        /// Which one.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Names the call that failed.
pub(super) fn host<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> VmError {
    move |error| VmError::Host {
        step,
        source: error.into(),
    }
}
