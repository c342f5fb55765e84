//! What a guest's CPUID leaves decide for its domain; pure.

use pvh_domain::TscScale;
use pvh_hypercall::{HYPERCALL_PORT, Stub, TscInfo};
use pvh_kvm::{CpuidLeaf, HypercallTransport};
use pvh_memory::PagingPolicy;
use pvh_vcpu::CpuPolicy;

/// The CPUID leaves of one vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestCpu<'a>(pub(crate) &'a [CpuidLeaf]);

impl GuestCpu<'_> {
    /// Returns how the guest's page tables are to be read.
    pub(crate) fn paging(self) -> PagingPolicy {
        PagingPolicy::from_cpuid(|function| self.registers(function))
    }

    /// Returns which bits of CR4, EFER and addresses `VCPUOP_initialise` accepts.
    pub(crate) fn policy(self) -> CpuPolicy {
        CpuPolicy::from_cpuid(|function| self.registers(function))
    }

    /// Returns what the hypercall page holds. Intercepted hypercalls use the opcode of the guest's
    /// CPU vendor, which is the host's.
    pub(crate) fn stub(self, transport: HypercallTransport) -> Stub {
        match transport {
            HypercallTransport::Intercept => Stub::from_cpuid(|function| self.registers(function)),
            _ => Stub::PortIo {
                port: HYPERCALL_PORT,
            },
        }
    }

    /// Returns the content of Xen leaf 3, the time-stamp counter.
    pub(crate) fn tsc(self, khz: u32, scale: TscScale) -> TscInfo {
        let to_ns = (scale.multiplier, scale.shift);
        TscInfo::from_cpuid(khz, to_ns, |function| self.registers(function))
    }

    /// Whether the TSC is invariant.
    pub(crate) fn has_invariant_tsc(self) -> bool {
        bit(self.leaf(0x8000_0007).edx, 8)
    }

    /// Returns the registers of a leaf, eax to edx.
    fn registers(self, function: u32) -> [u32; 4] {
        let CpuidLeaf {
            eax, ebx, ecx, edx, ..
        } = self.leaf(function);
        [eax, ebx, ecx, edx]
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
