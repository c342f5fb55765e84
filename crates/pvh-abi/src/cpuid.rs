//! The Xen CPUID leaves (xen/include/public/arch-x86/cpuid.h).

/// The first leaf, if no other hypervisor interface is shown.
#[doc(alias = "XEN_CPUID_FIRST_LEAF")]
pub const XEN_CPUID_BASE: u32 = 0x4000_0000;

/// ebx, ecx and edx of the first leaf: "XenVMMXenVMM".
#[doc(alias = "XEN_CPUID_SIGNATURE_EBX")]
pub const XEN_CPUID_SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];

/// The index of the last leaf that Xen shows by default.
pub const XEN_CPUID_MAX_INDEX: u32 = 5;

/// The model specific register that takes the hypercall page's address, named by leaf +2.
pub const XEN_HYPERCALL_MSR: u32 = 0x4000_0000;

/// Leaf +4 eax: APIC register accesses are virtualised in hardware.
#[doc(alias = "XEN_HVM_CPUID_APIC_ACCESS_VIRT")]
pub const HVM_APIC_ACCESS_VIRT: u32 = 1;
/// Leaf +4 eax: x2APIC accesses are virtualised in hardware.
#[doc(alias = "XEN_HVM_CPUID_X2APIC_VIRT")]
pub const HVM_X2APIC_VIRT: u32 = 1 << 1;
/// Leaf +4 eax: grant mappings honour IOMMU requests.
#[doc(alias = "XEN_HVM_CPUID_IOMMU_MAPPINGS")]
pub const HVM_IOMMU_MAPPINGS: u32 = 1 << 2;
/// Leaf +4 eax: ebx holds the vCPU id.
#[doc(alias = "XEN_HVM_CPUID_VCPU_ID_PRESENT")]
pub const HVM_VCPU_ID_PRESENT: u32 = 1 << 3;
/// Leaf +4 eax: ecx holds the domain id.
#[doc(alias = "XEN_HVM_CPUID_DOMID_PRESENT")]
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
/// Leaf +4 eax: interrupt destinations have 15 bits.
#[doc(alias = "XEN_HVM_CPUID_EXT_DEST_ID")]
pub const HVM_EXT_DEST_ID: u32 = 1 << 5;
/// Leaf +4 eax: HVMOP_set_evtchn_upcall_vector works.
#[doc(alias = "XEN_HVM_CPUID_UPCALL_VECTOR")]
pub const HVM_UPCALL_VECTOR: u32 = 1 << 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_reads_xenvmmxenvmm() {
        let text: [u8; 12] =
            core::array::from_fn(|i| XEN_CPUID_SIGNATURE[i / 4].to_le_bytes()[i % 4]);
        assert_eq!(&text, b"XenVMMXenVMM");
        assert_eq!(XEN_CPUID_BASE + XEN_CPUID_MAX_INDEX, 0x4000_0005);
    }

    #[test]
    fn the_bits_of_leaf_4_are_those_of_the_header() {
        let bits = [
            HVM_APIC_ACCESS_VIRT,
            HVM_X2APIC_VIRT,
            HVM_IOMMU_MAPPINGS,
            HVM_VCPU_ID_PRESENT,
            HVM_DOMID_PRESENT,
            HVM_EXT_DEST_ID,
            HVM_UPCALL_VECTOR,
        ];
        assert_eq!(bits, [1, 2, 4, 8, 16, 32, 64]);
    }
}
