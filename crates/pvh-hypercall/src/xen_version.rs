//! The versions of Xen whose answers a guest can get, and the table of what they answer
//! differently.

use core::{fmt, str::FromStr};

use pvh_abi::{Errno, version::Features};

/// A version of Xen, whose answers the guest gets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum XenVersion {
    /// Xen 4.17, as in Debian 12.
    #[default]
    V4_17,
    /// Xen 4.20, as in Debian 13.
    V4_20,
}

/// What a version of Xen answers differently from another: one row of the table.
///
/// Each answer was read from a guest's report on that Xen, except those whose field says so.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answers {
    /// Major and minor number, of XENVER_version and CPUID leaf +1.
    pub release: (u16, u16),
    /// XENVER_extraversion.
    pub extra_version: &'static str,
    /// XENVER_capabilities.
    pub capabilities: &'static str,
    /// XENVER_changeset.
    pub changeset: &'static str,
    /// XENVER_get_features, of submap 0.
    pub features: Features,
    /// XENVER_platform_parameters for a 64-bit caller; a 32-bit caller reads 0.
    pub virt_start: u64,
    /// XENVER ops 11 to 14, the texts of any length, are served.
    pub has_long_texts: bool,
    /// `VCPUOP_initialise` wants a `vcpu_info`; 4.19 was the first to do without, by its source.
    pub initialise_needs_vcpu_info: bool,
    /// `VCPUOP_register_runstate_phys_area` and `VCPUOP_register_vcpu_time_phys_area` are served.
    pub has_physical_areas: bool,
    /// A `vcpu_info` is registered by the rules of the physical areas: an offset past the page is
    /// EINVAL, a second registration EBUSY. By its source this Xen takes the `vcpu_info` of a vCPU
    /// that runs, too.
    pub is_vcpu_info_an_area: bool,
    /// `XENMEM_machine_memory_map` answers that the caller lacks the privilege, not that there is
    /// no such call.
    pub refuses_machine_map: bool,
    /// `XENMEM_acquire_resource` looks at its argument for a 64-bit caller.
    pub reads_resource: bool,
    /// `XENMEM_add_to_physmap` of a frame that holds no page.
    pub moved_hole: Errno,
    /// `HVMOP_set_param` of `ALTP2M`.
    pub set_altp2m: Errno,
    /// `HVMOP_xentrace` takes a length that is a multiple of this, in bytes.
    pub trace_unit_bytes: u16,
    /// `PHYSDEVOP_map_pirq` and `PHYSDEVOP_unmap_pirq` are served and refused, not unknown.
    pub has_pirq_calls: bool,
}

const V4_17: Answers = Answers {
    release: (4, 17),
    extra_version: ".7",
    capabilities: "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
    changeset: "unavailable",
    features: Features::PVH,
    virt_start: 0xffff_8000_0000_0000,
    has_long_texts: false,
    initialise_needs_vcpu_info: true,
    has_physical_areas: false,
    is_vcpu_info_an_area: false,
    refuses_machine_map: false,
    reads_resource: false,
    moved_hole: Errno::EINVAL,
    set_altp2m: Errno::EPERM,
    trace_unit_bytes: 1,
    has_pirq_calls: false,
};

const V4_20: Answers = Answers {
    release: (4, 20),
    extra_version: ".5-pre",
    capabilities: "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
    changeset: "",
    features: Features::PVH_4_20,
    virt_start: 0,
    has_long_texts: true,
    initialise_needs_vcpu_info: false,
    has_physical_areas: true,
    is_vcpu_info_an_area: true,
    refuses_machine_map: true,
    reads_resource: true,
    moved_hole: Errno::EACCES,
    set_altp2m: Errno::EEXIST,
    trace_unit_bytes: 4,
    has_pirq_calls: true,
};

impl XenVersion {
    /// Every version, the oldest first.
    pub const ALL: [Self; 2] = [Self::V4_17, Self::V4_20];

    /// Returns what this version answers.
    #[must_use]
    pub const fn answers(self) -> &'static Answers {
        match self {
            Self::V4_17 => &V4_17,
            Self::V4_20 => &V4_20,
        }
    }

    /// Returns the version with this major and minor number, if its answers are known.
    #[must_use]
    pub fn of_release(release: (u16, u16)) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|version| version.answers().release == release)
    }
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.answers().release;
        write!(f, "{major}.{minor}")
    }
}

/// The text is no version whose answers are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the known versions of Xen are 4.17 and 4.20")]
#[non_exhaustive]
pub struct UnknownVersion;

impl FromStr for XenVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let release = text.split_once('.').and_then(|(major, minor)| {
            let number = |digits: &str| digits.parse().ok();
            Some((number(major)?, number(minor)?))
        });
        release.and_then(Self::of_release).ok_or(UnknownVersion)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn the_words_are_4_17_and_4_20() {
        assert_eq!("4.17".parse(), Ok(XenVersion::V4_17));
        assert_eq!("4.20".parse(), Ok(XenVersion::V4_20));
        for text in ["", "4", "4.18", "4.17.5", "4.2", "4.", ".17", "x.y"] {
            assert_eq!(text.parse::<XenVersion>(), Err(UnknownVersion), "{text}");
        }
        let words = XenVersion::ALL.map(|version| version.to_string());
        assert_eq!(words, ["4.17", "4.20"]);
        for word in words {
            assert!(UnknownVersion.to_string().contains(&word), "{word}");
        }
    }

    /// Read by guests on 4.17.5 and 4.20.5.
    #[test]
    fn the_features_are_0x12305_and_0x1d2305() {
        let features = XenVersion::ALL.map(|version| version.answers().features.0);
        assert_eq!(features, [0x1_2305, 0x1d_2305]);
    }

    #[test]
    fn the_texts_of_4_20_have_6_and_61_and_0_bytes() {
        let answers = XenVersion::V4_20.answers();
        let texts = [
            answers.extra_version,
            answers.capabilities,
            answers.changeset,
        ];
        assert_eq!(texts.map(str::len), [6, 61, 0]);
    }
}
