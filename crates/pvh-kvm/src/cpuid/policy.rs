//! Computes the CPUID leaves of one vCPU from those of the host.

use super::{
    CpuidLeaf, CpuidPolicy, HypervisorLeaves,
    topology::{Place, set},
};

/// Returns the CPUID leaves of vCPU number `vcpu`, computed from those `supported` by host and KVM.
///
/// It is a pure function and accepts any list. The result has at most 7 entries more than
/// `supported` and the policy's hypervisor leaves together. It leaves out a leaf of zeros, because
/// a missing leaf reads as zeros too.
#[must_use]
pub fn cpuid_for_vcpu(supported: &[CpuidLeaf], vcpu: u32, policy: &CpuidPolicy) -> Vec<CpuidLeaf> {
    let place = Place::new(vcpu, policy);
    let has_v2_topology = supported.iter().any(|leaf| leaf.function == 0x1F);
    let has_amd_topology = supported.iter().any(|leaf| leaf.function == 0x8000_001E);
    let mut leaves: Vec<_> = supported
        .iter()
        .filter(|leaf| !is_left_out(leaf.function))
        .map(|leaf| patched(*leaf, &place, policy))
        .collect();
    leaves.extend(place.levels(0xB));
    if has_v2_topology {
        leaves.extend(place.levels(0x1F));
    }
    if has_amd_topology {
        leaves.push(place.amd_topology());
    }
    match &policy.hypervisor {
        HypervisorLeaves::Kvm => leaves.extend(supported.iter().filter_map(kvm_leaf)),
        HypervisorLeaves::Given(given) => leaves.extend(given),
    }
    leaves.retain(|leaf| leaf.eax | leaf.ebx | leaf.ecx | leaf.edx != 0);
    leaves
}

/// Tells whether the host's leaf is replaced or hidden from the guest.
fn is_left_out(function: u32) -> bool {
    matches!(
        function,
        PERFMON | 0xB | SGX | PROCESSOR_TRACE | 0x1F | PERFMON_EXTENDED | 0x4000_0000
            ..=0x4000_FFFF
                | AMD_SVM
                | 0x8000_001E
                | AMD_MEMORY_ENCRYPTION
                | AMD_PERFMON
                | AMD_EXTENDED_TOPOLOGY
    )
}

fn patched(mut leaf: CpuidLeaf, place: &Place, policy: &CpuidPolicy) -> CpuidLeaf {
    match (leaf.function, leaf.index.unwrap_or(0)) {
        (0, _) => leaf.eax = leaf.eax.max(0xB),
        (1, _) => {
            place.patch_features(&mut leaf);
            set(&mut leaf.ecx, VMX | PDCM | OSXSAVE, false);
            set(&mut leaf.ecx, HYPERVISOR, true);
            set(&mut leaf.ecx, X2APIC, policy.has_local_apic);
            let deadline = policy.has_local_apic && policy.has_tsc_deadline;
            set(&mut leaf.ecx, TSC_DEADLINE, deadline);
        }
        (4, _) => place.patch_intel_cache(&mut leaf),
        (7, 0) => {
            set(&mut leaf.ebx, LEAF_7_SGX | LEAF_7_PROCESSOR_TRACE, false);
            set(&mut leaf.ecx, LA57 | LEAF_7_SGX_LAUNCH, false);
        }
        (0x8000_0001, _) => {
            set(&mut leaf.ecx, CMP_LEGACY, place.cores > 1);
            set(
                &mut leaf.ecx,
                SVM | PERFCTR_CORE | PERFCTR_NB | PERFCTR_LLC,
                false,
            );
        }
        (0x8000_0008, _) => {
            let linear_bits = ((leaf.eax >> 8) & 0xFF).min(48);
            leaf.eax = (leaf.eax & !0xFF00) | (linear_bits << 8);
            place.patch_amd_sizes(&mut leaf);
        }
        (0x8000_001D, _) => place.patch_sharing(&mut leaf),
        _ => {}
    }
    leaf
}

/// Keeps KVM's signature, and those of its features that need no hypercall.
fn kvm_leaf(leaf: &CpuidLeaf) -> Option<CpuidLeaf> {
    let mut leaf = *leaf;
    match leaf.function {
        0x4000_0000 => leaf.eax = 0x4000_0001,
        0x4000_0001 => {
            leaf.eax &= KVM_FEATURES;
            leaf.edx = 0;
        }
        _ => return None,
    }
    Some(leaf)
}

const PERFMON: u32 = 0xA;
const SGX: u32 = 0x12;
const PROCESSOR_TRACE: u32 = 0x14;
const PERFMON_EXTENDED: u32 = 0x23;
const AMD_SVM: u32 = 0x8000_000A;
const AMD_MEMORY_ENCRYPTION: u32 = 0x8000_001F;
const AMD_PERFMON: u32 = 0x8000_0022;
const AMD_EXTENDED_TOPOLOGY: u32 = 0x8000_0026;

// Leaf 1 ecx.
const VMX: u32 = 1 << 5;
const PDCM: u32 = 1 << 15;
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;

// Leaf 7 subleaf 0, ebx and ecx.
const LEAF_7_SGX: u32 = 1 << 2;
const LEAF_7_PROCESSOR_TRACE: u32 = 1 << 25;
const LA57: u32 = 1 << 16;
const LEAF_7_SGX_LAUNCH: u32 = 1 << 30;

// Leaf 0x8000_0001 ecx.
const CMP_LEGACY: u32 = 1 << 1;
const SVM: u32 = 1 << 2;
const PERFCTR_CORE: u32 = 1 << 23;
const PERFCTR_NB: u32 = 1 << 24;
const PERFCTR_LLC: u32 = 1 << 28;

/// Leaf 0x4000_0001 eax: clock source (bits 0 and 3), no I/O delay (1), steal time (5), PV EOI (6),
/// stable clock source (24).
const KVM_FEATURES: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 24;
