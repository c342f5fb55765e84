//! The Xen CPUID leaves (xen/include/public/arch-x86/cpuid.h).

use pvh_abi::cpuid::{
    HVM_DOMID_PRESENT, HVM_IOMMU_MAPPINGS, HVM_UPCALL_VECTOR, HVM_VCPU_ID_PRESENT, XEN_CPUID_BASE,
    XEN_CPUID_MAX_INDEX, XEN_CPUID_SIGNATURE, XEN_HYPERCALL_MSR,
};

/// What one CPUID leaf answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct CpuidLeaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// The guest's TSC, as leaf +3 tells it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TscInfo {
    /// Sub-leaf 0 eax: bit 0 RDTSC is emulated, bit 1 the host's TSC is reliable, bit 2 RDTSCP is
    /// there.
    pub flags: u32,
    /// 0 default, 1 always emulated, 2 never emulated; Linux trusts the TSC itself only with 2.
    pub mode: u32,
    /// The guest's TSC frequency in kHz.
    pub guest_khz: u32,
    /// How often the guest was migrated.
    pub incarnation: u32,
    /// What is added to the host's TSC.
    pub offset: u64,
    /// The fraction, of 2^32, that makes ns of ticks.
    pub to_ns_mul: u32,
    /// The shift before that.
    pub to_ns_shift: i8,
    /// The host's frequency in kHz.
    pub host_khz: u32,
}

impl TscInfo {
    /// Describes the TSC of a guest that runs at the host's rate, as Xen does by default: `leaf`
    /// returns eax, ebx, ecx and edx of a leaf of the guest's CPUID, subleaf 0, and zeros for one
    /// that is not there. `to_ns` is the fraction of 2^32 and the shift that make ns of ticks, as in
    /// the guest's `vcpu_time_info`; pvh-domain's `TscScale` computes both.
    pub fn from_cpuid(khz: u32, to_ns: (u32, i8), leaf: impl Fn(u32) -> [u32; 4]) -> Self {
        let [_, _, _, power] = leaf(0x8000_0007);
        let [_, _, _, extended] = leaf(0x8000_0001);
        let flag = |is_set, bit: u32| if is_set { bit } else { 0 };
        let is_invariant = power & 1 << 8 != 0;
        let has_rdtscp = extended & 1 << 27 != 0;
        Self {
            flags: flag(is_invariant, TSC_RELIABLE) | flag(has_rdtscp, HAS_RDTSCP),
            mode: 0,
            guest_khz: khz,
            incarnation: 1,
            offset: 0,
            to_ns_mul: to_ns.0,
            to_ns_shift: to_ns.1,
            host_khz: khz,
        }
    }
}

/// What the Xen leaves say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CpuidConfig {
    /// The first leaf: 0x4000_0000, or 0x4000_0100 behind Hyper-V's.
    pub base: u32,
    /// The Xen version, major and minor.
    pub version: (u16, u16),
    /// The MSR that takes the hypercall page's address.
    pub hypercall_msr: u32,
    /// Leaf +4 eax, `HVM_*` of `pvh_abi::cpuid`.
    pub hvm_features: u32,
    /// The domain's id.
    pub domain_id: u32,
    /// The id of the vCPU that executes CPUID.
    pub vcpu_id: u32,
    /// Its TSC.
    pub tsc: TscInfo,
}

impl CpuidConfig {
    /// What Xen 4.17 shows to vCPU `vcpu_id` of a PVH domain.
    #[must_use]
    pub const fn new(domain_id: u32, vcpu_id: u32, tsc: TscInfo) -> Self {
        Self {
            base: XEN_CPUID_BASE,
            version: (4, 17),
            hypercall_msr: XEN_HYPERCALL_MSR,
            hvm_features: HVM_IOMMU_MAPPINGS
                | HVM_VCPU_ID_PRESENT
                | HVM_DOMID_PRESENT
                | HVM_UPCALL_VECTOR,
            domain_id,
            vcpu_id,
            tsc,
        }
    }

    /// Answers one leaf; `None` outside the 256 leaves that belong to Xen. Xen's own leaves above
    /// the highest index read as 0.
    #[must_use]
    pub fn leaf(&self, leaf: u32, subleaf: u32) -> Option<CpuidLeaf> {
        let index = leaf.checked_sub(self.base).filter(|index| *index < 256)?;
        Some(match (index, subleaf) {
            (0, _) => self.signature(),
            (1, _) => {
                let (major, minor) = self.version;
                eax(u32::from(major) << 16 | u32::from(minor))
            }
            (2, _) => CpuidLeaf {
                eax: 1,
                ebx: self.hypercall_msr,
                ..CpuidLeaf::default()
            },
            (3, 0) => CpuidLeaf {
                eax: self.tsc.flags,
                ebx: self.tsc.mode,
                ecx: self.tsc.guest_khz,
                edx: self.tsc.incarnation,
            },
            (3, 1) => self.tsc_conversion(),
            (3, 2) => eax(self.tsc.host_khz),
            (4, 0) => self.hvm(),
            _ => CpuidLeaf::default(),
        })
    }

    /// Every leaf to be put into a CPUID table, as (leaf, subleaf, answer): +0 to +5 whole, for on
    /// an Intel host KVM answers a leaf that is not listed with data of another.
    pub fn leaves(&self) -> impl Iterator<Item = (u32, u32, CpuidLeaf)> + '_ {
        const SUBLEAVES: [(u32, u32); 8] = [
            (0, 0),
            (1, 0),
            (2, 0),
            (3, 0),
            (3, 1),
            (3, 2),
            (4, 0),
            (5, 0),
        ];
        SUBLEAVES.into_iter().filter_map(|(index, subleaf)| {
            let leaf = self.base.checked_add(index)?;
            Some((leaf, subleaf, self.leaf(leaf, subleaf)?))
        })
    }

    fn signature(&self) -> CpuidLeaf {
        let [ebx, ecx, edx] = XEN_CPUID_SIGNATURE;
        CpuidLeaf {
            eax: self.base.saturating_add(XEN_CPUID_MAX_INDEX),
            ebx,
            ecx,
            edx,
        }
    }

    fn tsc_conversion(&self) -> CpuidLeaf {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.tsc.offset.to_le_bytes();
        CpuidLeaf {
            eax: u32::from_le_bytes([b0, b1, b2, b3]),
            ebx: u32::from_le_bytes([b4, b5, b6, b7]),
            ecx: self.tsc.to_ns_mul,
            edx: u32::from(self.tsc.to_ns_shift.cast_unsigned()),
        }
    }

    fn hvm(&self) -> CpuidLeaf {
        let shown = |bit: u32, id: u32| if self.hvm_features & bit != 0 { id } else { 0 };
        CpuidLeaf {
            eax: self.hvm_features,
            ebx: shown(HVM_VCPU_ID_PRESENT, self.vcpu_id),
            ecx: shown(HVM_DOMID_PRESENT, self.domain_id),
            edx: 0,
        }
    }
}

fn eax(eax: u32) -> CpuidLeaf {
    CpuidLeaf {
        eax,
        ..CpuidLeaf::default()
    }
}

/// Leaf +3, eax: the TSC is reliable.
const TSC_RELIABLE: u32 = 1 << 1;
/// Leaf +3, eax: the guest has RDTSCP.
const HAS_RDTSCP: u32 = 1 << 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tsc_is_reliable_if_it_is_invariant_and_rdtscp_is_told() {
        // CPUID 0x80000007 edx bit 8, and 0x80000001 edx bit 27.
        for (power, extended, want) in [(0, 0, 0), (0x100, 0, 2), (0, 0x800_0000, 4), (!0, !0, 6)] {
            let leaf = |function| match function {
                0x8000_0007 => [0, 0, 0, power],
                0x8000_0001 => [0, 0, 0, extended],
                _ => [!0; 4],
            };
            let tsc = TscInfo::from_cpuid(2_400_000, (0xd555_5555, -1), leaf);
            assert_eq!(tsc.flags, want);
            assert_eq!((tsc.guest_khz, tsc.host_khz), (2_400_000, 2_400_000));
            assert_eq!((tsc.to_ns_mul, tsc.to_ns_shift), (0xd555_5555, -1));
            assert_eq!((tsc.mode, tsc.incarnation, tsc.offset), (0, 1, 0));
        }
    }

    const TSC: TscInfo = TscInfo {
        flags: 2,
        mode: 2,
        guest_khz: 2_400_000,
        incarnation: 1,
        offset: 0x1122_3344_5566_7788,
        to_ns_mul: 0xd555_5555,
        to_ns_shift: -1,
        host_khz: 2_500_000,
    };

    fn config() -> CpuidConfig {
        CpuidConfig::new(7, 3, TSC)
    }

    fn registers(leaf: u32, subleaf: u32) -> [u32; 4] {
        let leaf = config().leaf(leaf, subleaf).unwrap();
        [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
    }

    #[test]
    fn leaf_0_has_the_signature_and_the_highest_leaf() {
        assert_eq!(
            registers(0x4000_0000, 0),
            [0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]
        );
    }

    #[test]
    fn leaf_1_has_version_4_17() {
        assert_eq!(registers(0x4000_0001, 0), [0x0004_0011, 0, 0, 0]);
    }

    #[test]
    fn leaf_2_has_one_page_and_its_msr() {
        assert_eq!(registers(0x4000_0002, 0), [1, 0x4000_0000, 0, 0]);
    }

    #[test]
    fn leaf_3_has_the_tsc_in_three_parts() {
        assert_eq!(registers(0x4000_0003, 0), [2, 2, 2_400_000, 1]);
        let parts = [0x5566_7788, 0x1122_3344, 0xd555_5555, 0xff];
        assert_eq!(registers(0x4000_0003, 1), parts);
        assert_eq!(registers(0x4000_0003, 2), [2_500_000, 0, 0, 0]);
        assert_eq!(registers(0x4000_0003, 3), [0; 4]);
    }

    #[test]
    fn leaf_4_has_bits_2_3_4_and_6_the_vcpu_and_the_domain() {
        let bits = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6;
        assert_eq!(registers(0x4000_0004, 0), [bits, 3, 7, 0]);
        let hidden = CpuidConfig {
            hvm_features: 1 << 6,
            ..config()
        };
        let leaf = hidden.leaf(0x4000_0004, 0).unwrap();
        assert_eq!((leaf.ebx, leaf.ecx), (0, 0), "ids only behind their bits");
    }

    #[test]
    fn a_leaf_above_the_highest_reads_0_and_foreign_leaves_are_not_ours() {
        assert_eq!(registers(0x4000_0005, 0), [0; 4]);
        assert_eq!(registers(0x4000_00ff, 9), [0; 4]);
        assert_eq!(config().leaf(0x4000_0100, 0), None);
        assert_eq!(config().leaf(0x3fff_ffff, 0), None);
        assert_eq!(config().leaf(1, 0), None);
    }

    #[test]
    fn behind_hyper_v_every_leaf_moves_by_0x100() {
        let moved = CpuidConfig {
            base: 0x4000_0100,
            hypercall_msr: 0x4000_0200,
            ..config()
        };
        assert_eq!(moved.leaf(0x4000_0100, 0).unwrap().eax, 0x4000_0105);
        assert_eq!(moved.leaf(0x4000_0102, 0).unwrap().ebx, 0x4000_0200);
        assert_eq!(moved.leaf(0x4000_0000, 0), None);
    }

    #[test]
    fn the_table_lists_leaves_0_to_5_with_what_leaf_answers() {
        let listed: [(u32, u32, CpuidLeaf); 8] = {
            let config = config();
            let mut leaves = config.leaves();
            core::array::from_fn(|_| leaves.next().unwrap())
        };
        assert_eq!(config().leaves().count(), 8);
        for (leaf, subleaf, answer) in listed {
            assert_eq!(config().leaf(leaf, subleaf), Some(answer));
        }
        assert_eq!((listed[0].0, listed[7].0), (0x4000_0000, 0x4000_0005));
    }
}
