//! `xen_version`: sub-operations, structures and feature bits (xen/include/public/version.h,
//! features.h).

use zerocopy::little_endian::U32;

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `xen_version`.
    #[doc(alias = "XENVER")]
    VersionOp: u32 {
        /// The version, answered as the result.
        VERSION = 0,
        /// The extra version string, 16 bytes.
        EXTRAVERSION = 1,
        /// See [`CompileInfo`].
        COMPILE_INFO = 2,
        /// The guest types that can run, 1024 bytes.
        CAPABILITIES = 3,
        /// The changeset of the source, 64 bytes.
        CHANGESET = 4,
        /// The virtual start of the hypervisor, a machine word, 0 for HVM.
        PLATFORM_PARAMETERS = 5,
        /// See [`FeatureInfo`].
        GET_FEATURES = 6,
        /// The page size, answered as the result.
        PAGESIZE = 7,
        /// The domain's UUID, 16 bytes.
        GUEST_HANDLE = 8,
        /// The hypervisor's command line, 1024 bytes.
        COMMANDLINE = 9,
        /// The build id.
        BUILD_ID = 10,
        /// The extra version string, of any length; since Xen 4.20.
        EXTRAVERSION2 = 11,
        /// The guest types that can run, of any length; since Xen 4.20.
        CAPABILITIES2 = 12,
        /// The changeset of the source, of any length; since Xen 4.20.
        CHANGESET2 = 13,
        /// The hypervisor's command line, of any length; since Xen 4.20.
        COMMANDLINE2 = 14,
    }
}

wire! {
    /// The answer of `compile_info`.
    #[doc(alias = "xen_compile_info")]
    CompileInfo: 144 {
        /// The compiler.
        pub compiler: [u8; 64] = 0,
        /// The user who compiled.
        pub compile_by: [u8; 16] = 64,
        /// The domain of the machine that compiled.
        pub compile_domain: [u8; 32] = 80,
        /// The date of compilation.
        pub compile_date: [u8; 32] = 112,
    }
}

wire! {
    /// The argument of `get_features`.
    #[doc(alias = "xen_feature_info")]
    FeatureInfo: 8 {
        /// The group of 32 features; only 0 exists.
        pub submap_idx: U32 = 0,
        /// Out: see [`Features`].
        pub submap: U32 = 4,
    }
}

/// Features of submap 0 (features.h). The set is open.
#[doc(alias = "XENFEAT")]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Features(pub u32);

impl Features {
    /// Page tables need not be read-only.
    pub const WRITABLE_PAGE_TABLES: Self = Self(1);
    /// Frames are guest frames.
    pub const AUTO_TRANSLATED_PHYSMAP: Self = Self(1 << 2);
    /// Upcalls can come by a vector.
    pub const HVM_CALLBACK_VECTOR: Self = Self(1 << 8);
    /// The time information can be used by HVM guests.
    pub const HVM_SAFE_PVCLOCK: Self = Self(1 << 9);
    /// `memory_op` takes virtual NUMA nodes.
    pub const MEMORY_OP_VNODE_SUPPORTED: Self = Self(1 << 13);
    /// Guest frames are not machine frames.
    pub const NOT_DIRECT_MAPPED: Self = Self(1 << 16);

    /// The runstate area can have a guest-physical address.
    pub const RUNSTATE_PHYS_AREA: Self = Self(1 << 18);
    /// The secondary time area can have a guest-physical address.
    pub const VCPU_TIME_PHYS_AREA: Self = Self(1 << 19);
    /// A device model sees all writes to MSI-X entries.
    pub const DM_MSIX_ALL_WRITES: Self = Self(1 << 20);

    /// The features that Xen 4.17 shows to a PVH domU.
    pub const PVH: Self = Self(0x0001_2305);
    /// The features that Xen 4.20 shows to a PVH domU.
    pub const PVH_4_20: Self = Self(0x001d_2305);

    /// Returns the features of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Tells whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_version_h() {
        assert_eq!(VersionOp(6).name(), Some("GET_FEATURES"));
        assert_eq!(VersionOp(10).name(), Some("BUILD_ID"));
        assert_eq!(VersionOp(11).name(), Some("EXTRAVERSION2"));
        assert_eq!(VersionOp(14).name(), Some("COMMANDLINE2"));
        assert_eq!(VersionOp(15).name(), None, "not in Xen 4.20");
    }

    #[test]
    fn a_pvh_domain_sees_features_0_2_8_9_13_and_16() {
        let bits = [0, 2, 8, 9, 13, 16]
            .into_iter()
            .fold(0, |word, bit| word | 1_u32 << bit);
        assert_eq!(Features::PVH.0, bits);
        let named = Features::WRITABLE_PAGE_TABLES
            .union(Features::AUTO_TRANSLATED_PHYSMAP)
            .union(Features::HVM_CALLBACK_VECTOR)
            .union(Features::HVM_SAFE_PVCLOCK)
            .union(Features::MEMORY_OP_VNODE_SUPPORTED)
            .union(Features::NOT_DIRECT_MAPPED);
        assert_eq!(Features::PVH, named);
        assert!(!Features::PVH.contains(Features(1 << 10)), "no pirqs");
        assert!(Features::PVH.contains(Features(1 << 16 | 1)));
        let added = Features::RUNSTATE_PHYS_AREA
            .union(Features::VCPU_TIME_PHYS_AREA)
            .union(Features::DM_MSIX_ALL_WRITES);
        assert_eq!(Features::PVH_4_20, named.union(added));
        assert_eq!(added.0, 0x1c_0000, "bits 18 to 20");
        assert_eq!(Features(3).union(Features(6)).0, 7);
    }
}
