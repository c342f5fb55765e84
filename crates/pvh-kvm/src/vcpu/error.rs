//! Why a vCPU cannot be created, set up or run.

use std::io;

use pvh_abi::Gpa;

/// Why a vCPU cannot be created, set up or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// The machine has fewer vCPUs.
    #[error("vCPU {index} does not exist: the machine has {vcpus} vCPUs")]
    NoSuchVcpu {
        /// The index asked for.
        index: u32,
        /// How many vCPUs the machine has.
        vcpus: u32,
    },
    /// RAM ends above the highest address that this host's KVM lets a guest use.
    #[error(
        "vCPU {index}: guest memory ends at {end}, above the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// The vCPU.
        index: u32,
        /// The first address after RAM.
        end: Gpa,
        /// The width of a guest-physical address in bits.
        address_bits: u8,
    },
    /// KVM refused to set a model-specific register.
    #[error("vCPU {index}: KVM refuses the value {value:#x} for MSR {msr:#x}")]
    Msr {
        /// The vCPU.
        index: u32,
        /// The register.
        msr: u32,
        /// The value.
        value: u64,
    },
    /// The entry brings a wrong number of bytes for the last exit.
    #[error("vCPU {index}: the last exit needs {expected} bytes, the entry has {given}")]
    Answer {
        /// The vCPU.
        index: u32,
        /// The number of bytes that the exit needs.
        expected: usize,
        /// The number of bytes in the entry.
        given: usize,
    },
    /// The entry is not of the kind that the last exit needs.
    #[error("vCPU {index}: the last exit needs {expected}, the entry has {given}")]
    AnswerKind {
        /// The vCPU.
        index: u32,
        /// What the exit needs.
        expected: &'static str,
        /// What the entry has.
        given: &'static str,
    },
    /// KVM's record of an exit names bytes outside the page it shares with this process.
    #[error("vCPU {index}: KVM names {len} bytes at {offset:#x}, outside its kvm_run page")]
    RunPage {
        /// The vCPU.
        index: u32,
        /// Their offset in the page.
        offset: usize,
        /// Their number.
        len: usize,
    },
    /// KVM cannot access a page of RAM; most often because the file mapped there was truncated.
    #[error("vCPU {index}: guest memory at {at} is lost: its file may have been truncated")]
    LostRam {
        /// The vCPU.
        index: u32,
        /// The address that the guest accessed.
        at: Gpa,
    },
    /// A call to the host failed.
    #[error("vCPU {index}: {step} failed")]
    Host {
        /// The vCPU.
        index: u32,
        /// The call.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Returns a function that turns the host's error into [`VcpuError::Host`], with the call's name.
pub(super) fn host<E: Into<io::Error>>(
    index: u32,
    step: &'static str,
) -> impl FnOnce(E) -> VcpuError {
    move |error| VcpuError::Host {
        index,
        step,
        source: error.into(),
    }
}
