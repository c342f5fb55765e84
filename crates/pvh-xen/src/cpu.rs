//! What a guest's CPUID leaves decide for its domain; pure.

use pvh_hypercall::{HYPERCALL_PORT, Stub};
use pvh_kvm::{CpuidLeaf, HypercallTransport};
use pvh_memory::PagingPolicy;
use pvh_vcpu::CpuPolicy;

/// The CPUID leaves of one vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestCpu<'a>(pub(crate) &'a [CpuidLeaf]);

impl GuestCpu<'_> {
    /// Returns how the guest's page tables are to be read.
    pub(crate) fn paging(self) -> PagingPolicy {
        PagingPolicy {
            address_bits: self.address_bits(),
            is_amd: self.is_amd(),
            has_gib_pages: bit(self.leaf(EXTENDED_FEATURES).edx, 26),
            has_pse36: bit(self.leaf(1).edx, 17),
        }
    }

    /// Returns which bits of CR4, EFER and addresses `VCPUOP_initialise` accepts.
    pub(crate) fn policy(self) -> CpuPolicy {
        CpuPolicy {
            cr4_bits: self.cr4_bits(),
            efer_bits: self.efer_bits(),
            physical_address_bits: self.address_bits(),
        }
    }

    /// Returns what the hypercall page holds. Intercepted hypercalls use the opcode of the guest's
    /// CPU vendor, which is the host's.
    pub(crate) fn stub(self, transport: HypercallTransport) -> Stub {
        match transport {
            HypercallTransport::Intercept if self.is_amd() => Stub::Vmmcall,
            HypercallTransport::Intercept => Stub::Vmcall,
            _ => Stub::PortIo {
                port: HYPERCALL_PORT,
            },
        }
    }

    /// Whether the TSC is invariant.
    pub(crate) fn has_invariant_tsc(self) -> bool {
        bit(self.leaf(0x8000_0007).edx, 8)
    }

    /// Whether RDTSCP is available.
    pub(crate) fn has_rdtscp(self) -> bool {
        bit(self.leaf(EXTENDED_FEATURES).edx, 27)
    }

    fn address_bits(self) -> u8 {
        let [bits, ..] = self.leaf(0x8000_0008).eax.to_le_bytes();
        if bits == 0 { 36 } else { bits }
    }

    fn is_amd(self) -> bool {
        let vendor = self.leaf(0);
        let bytes = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        matches!(bytes.as_flattened(), b"AuthenticAMD" | b"HygonGenuine")
    }

    /// The CR4 bits that CPUID allows: those of Xen's hvm_cr4_guest_valid_bits without nested
    /// virtualisation.
    fn cr4_bits(self) -> u64 {
        let (basic, structured) = (self.leaf(1), self.leaf(7));
        let shown = [
            (basic.edx, 1, 0x3),           // VME: VME and PVI
            (basic.edx, 4, 1 << 2),        // TSC: TSD
            (basic.edx, 2, 1 << 3),        // DE
            (basic.edx, 3, 1 << 4),        // PSE
            (basic.edx, 6, 1 << 5),        // PAE
            (basic.edx, 7, 1 << 6),        // MCE
            (basic.edx, 13, 1 << 7),       // PGE
            (u32::MAX, 0, 1 << 8),         // PCE, always
            (basic.edx, 24, 1 << 9),       // FXSR: OSFXSR
            (basic.edx, 25, 1 << 10),      // SSE: OSXMMEXCPT
            (structured.ecx, 2, 1 << 11),  // UMIP
            (structured.ebx, 0, 1 << 16),  // FSGSBASE
            (basic.ecx, 17, 1 << 17),      // PCID
            (basic.ecx, 26, 1 << 18),      // XSAVE: OSXSAVE
            (structured.ebx, 7, 1 << 20),  // SMEP
            (structured.ebx, 20, 1 << 21), // SMAP
            (structured.ecx, 3, 1 << 22),  // PKU: PKE
        ];
        bits(&shown)
    }

    fn efer_bits(self) -> u64 {
        let features = self.leaf(EXTENDED_FEATURES).edx;
        bits(&[
            (features, 11, 1),       // SYSCALL: SCE
            (features, 29, 0x500),   // long mode: LME and LMA
            (features, 20, 1 << 11), // NX
            (features, 25, 1 << 14), // FFXSR
        ])
    }

    /// Returns a leaf (subleaf 0), or zeros if it is not there.
    fn leaf(self, function: u32) -> CpuidLeaf {
        let found = self
            .0
            .iter()
            .find(|leaf| leaf.function == function && leaf.index.is_none_or(|index| index == 0));
        found.copied().unwrap_or_default()
    }
}

fn bit(register: u32, number: u32) -> bool {
    register.checked_shr(number).unwrap_or(0) & 1 != 0
}

/// Joins the masks whose feature bit is set.
fn bits(shown: &[(u32, u32, u64)]) -> u64 {
    let set = shown
        .iter()
        .filter(|(register, number, _)| bit(*register, *number));
    set.fold(0, |bits, (_, _, mask)| bits | mask)
}

const EXTENDED_FEATURES: u32 = 0x8000_0001;

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidLeaf {
        CpuidLeaf {
            function,
            index: None,
            eax,
            ebx,
            ecx,
            edx,
        }
    }

    fn vendor(name: &[u8; 12]) -> CpuidLeaf {
        let words = name.as_chunks::<4>().0;
        let [ebx, edx, ecx] = [words[0], words[1], words[2]].map(u32::from_le_bytes);
        leaf(0, [0xD, ebx, ecx, edx])
    }

    #[test]
    fn the_hypercall_page_holds_the_opcode_of_the_vendor() {
        let stub = |name| {
            let leaves = [vendor(name)];
            GuestCpu(&leaves).stub(HypercallTransport::Intercept)
        };
        assert_eq!(stub(b"AuthenticAMD"), Stub::Vmmcall);
        assert_eq!(stub(b"HygonGenuine"), Stub::Vmmcall);
        assert_eq!(stub(b"GenuineIntel"), Stub::Vmcall);
        let amd = [vendor(b"AuthenticAMD")];
        let port = GuestCpu(&amd).stub(HypercallTransport::Port { port: 0xE4 });
        assert_eq!(port, Stub::PortIo { port: 0xE4 });
    }

    #[test]
    fn cpuid_features_allow_their_cr4_and_efer_bits() {
        let leaves = [
            leaf(1, [0, 0, 1 << 17 | 1 << 26, 0x0300_20DE]),
            leaf(7, [0, 1 | 1 << 7 | 1 << 20, 1 << 2 | 1 << 3, 0]),
            leaf(
                0x8000_0001,
                [0, 0, 0, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29],
            ),
            leaf(0x8000_0008, [0x3028, 0, 0, 0]),
        ];
        let policy = GuestCpu(&leaves).policy();
        // VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP FSGSBASE PCIDE OSXSAVE SMEP
        // SMAP PKE.
        assert_eq!(policy.cr4_bits, 0x77_0FFF);
        assert_eq!(policy.efer_bits, 0xD01);
        assert_eq!(policy.physical_address_bits, 40);
        let paging = GuestCpu(&leaves).paging();
        assert!(paging.has_gib_pages && !paging.has_pse36 && !paging.is_amd);
    }

    #[test]
    fn without_features_only_cr4_pce_is_allowed() {
        let policy = GuestCpu(&[]).policy();
        assert_eq!((policy.cr4_bits, policy.efer_bits), (0x100, 0));
        assert_eq!(policy.physical_address_bits, 36);
    }
}
