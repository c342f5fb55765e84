//! The CPUID leaves of a guest, as a pure function. docs/decisions/0003-cpuid-msr-tsc.md gives the
//! reason for each bit.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

mod policy;
mod topology;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;

pub use policy::cpuid_for_vcpu;

/// The answer to CPUID for one value of eax and, where it matters, ecx.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the instruction has these operands"
)]
pub struct CpuidLeaf {
    /// The leaf: eax on entry.
    pub function: u32,
    /// The subleaf: ecx on entry; `None` for a leaf without subleaves.
    pub index: Option<u32>,
    /// eax of the answer.
    pub eax: u32,
    /// ebx of the answer.
    pub ebx: u32,
    /// ecx of the answer.
    pub ecx: u32,
    /// edx of the answer.
    pub edx: u32,
}

/// How a vCPU's APIC id is computed from its index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ApicIds {
    /// The id is the index, as a plain KVM guest expects.
    #[default]
    Index,
    /// The id is twice the index, as a Xen guest expects.
    TwiceIndex,
}

impl ApicIds {
    /// Returns the APIC id of a vCPU; `None` above 2^32 - 1.
    #[must_use]
    pub const fn apic_id(self, vcpu: u32) -> Option<u32> {
        match self {
            Self::Index => Some(vcpu),
            Self::TwiceIndex => vcpu.checked_mul(2),
        }
    }

    /// Returns how many low bits of an APIC id number the threads of a core.
    const fn thread_bits(self) -> u32 {
        match self {
            Self::Index => 0,
            Self::TwiceIndex => 1,
        }
    }
}

/// The CPUID leaves from 0x4000_0000 on.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HypervisorLeaves {
    /// KVM's own leaves, with only the features that need no hypercall: kvmclock, steal time, PV
    /// EOI.
    Kvm,
    /// Exactly these leaves.
    Given(Vec<CpuidLeaf>),
}

/// What determines a guest's CPUID leaves, besides the host.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CpuidPolicy {
    /// The number of vCPUs of the machine; 0 counts as 1.
    pub vcpus: u32,
    /// How a vCPU's APIC id is computed from its index.
    pub apic_ids: ApicIds,
    /// Whether the vCPUs have local APICs, which includes x2APIC mode.
    pub has_local_apic: bool,
    /// Whether the timer of the local APIC has TSC deadline mode.
    pub has_tsc_deadline: bool,
    /// The leaves from 0x4000_0000 on.
    pub hypervisor: HypervisorLeaves,
}

impl CpuidPolicy {
    /// Returns the policy of a machine with `vcpus` vCPUs, local APICs without TSC deadline mode,
    /// and KVM's hypervisor leaves.
    #[must_use]
    pub const fn new(vcpus: u32) -> Self {
        Self {
            vcpus,
            apic_ids: ApicIds::Index,
            has_local_apic: true,
            has_tsc_deadline: false,
            hypervisor: HypervisorLeaves::Kvm,
        }
    }
}

impl From<&kvm_cpuid_entry2> for CpuidLeaf {
    fn from(entry: &kvm_cpuid_entry2) -> Self {
        let has_index = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        Self {
            function: entry.function,
            index: has_index.then_some(entry.index),
            eax: entry.eax,
            ebx: entry.ebx,
            ecx: entry.ecx,
            edx: entry.edx,
        }
    }
}

impl CpuidLeaf {
    pub(crate) fn to_kvm(self) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function: self.function,
            index: self.index.unwrap_or(0),
            flags: self.index.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
            eax: self.eax,
            ebx: self.ebx,
            ecx: self.ecx,
            edx: self.edx,
            padding: [0; 3],
        }
    }
}
