//! Why a vCPU cannot be made, set up or run.

use std::io;

use pvh_abi::Gpa;

/// Why a vCPU cannot be made, set up or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// The machine was not built for so many vCPUs.
    #[error("there is no vCPU {index} in a machine of {vcpus}")]
    NoSuchVcpu {
        /// The index asked for.
        index: u32,
        /// How many vCPUs the machine has.
        vcpus: u32,
    },
    /// The RAM reaches beyond what this host's KVM lets a guest address.
    #[error(
        "vCPU {index}: guest memory ends at {end}, beyond the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// The vCPU.
        index: u32,
        /// First address after the RAM.
        end: Gpa,
        /// Width of a guest-physical address.
        address_bits: u8,
    },
    /// A model-specific register could not be set.
    #[error("vCPU {index}: KVM refuses {value:#x} in MSR {msr:#x}")]
    Msr {
        /// The vCPU.
        index: u32,
        /// The register.
        msr: u32,
        /// The value.
        value: u64,
    },
    /// The entry does not answer the last exit: the wrong number of bytes, or none asked for.
    #[error("vCPU {index}: the last exit asked for {expected} bytes, the entry brings {given}")]
    Answer {
        /// The vCPU.
        index: u32,
        /// How many bytes the exit asked for.
        expected: usize,
        /// How many the entry brings.
        given: usize,
    },
    /// The entry does not answer the last exit: it is of another kind.
    #[error("vCPU {index}: the last exit asked for {expected}, the entry brings {given}")]
    AnswerKind {
        /// The vCPU.
        index: u32,
        /// What the exit asked for.
        expected: &'static str,
        /// What the entry brings.
        given: &'static str,
    },
    /// KVM's record of an exit names bytes outside the page it shares with us.
    #[error("vCPU {index}: KVM names {len} bytes at {offset:#x}, outside its page")]
    RunPage {
        /// The vCPU.
        index: u32,
        /// Where the bytes would be.
        offset: usize,
        /// How many.
        len: usize,
    },
    /// KVM could not reach a page of RAM: most often the file that is mapped there has become shorter.
    #[error("vCPU {index}: the guest's memory at {at} is lost")]
    LostRam {
        /// The vCPU.
        index: u32,
        /// Where the guest reads or writes.
        at: Gpa,
    },
    /// A call to the host failed.
    #[error("vCPU {index}: {step} failed")]
    Host {
        /// The vCPU.
        index: u32,
        /// Which call.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Names the call that failed.
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
