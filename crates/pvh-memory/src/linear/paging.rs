//! The registers and features that decide how a processor walks page tables.

use core::fmt;

/// A linear address: what a guest's pointer is after segmentation, before paging.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinearAddress(pub u64);

/// The kind of access; both kinds are explicit supervisor accesses to data.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "instructions are never fetched")]
pub enum Access {
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
}

/// The registers of a vCPU that decide how its linear addresses are translated, at one moment.
///
/// A copy uses those of the caller at the moment of the copy, so take them anew for each hypercall;
/// an area that was registered by its linear address is found through the tables loaded when it is
/// written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PagingState {
    /// PG and WP are used.
    pub cr0: u64,
    /// The root table. Bits 63:32 count in 4-level mode only.
    pub cr3: u64,
    /// PSE, PAE, SMAP and PKE are used.
    pub cr4: u64,
    /// LMA and NXE are used.
    pub efer: u64,
    /// AC is used.
    pub rflags: u64,
    /// Rights of the protection keys; used if CR4.PKE is on, and 0 denies nothing.
    pub pkru: u32,
}

impl PagingState {
    /// Protected mode without paging, as at a PVH entry: a linear address is a physical one.
    pub const UNPAGED: Self = Self {
        cr0: 0x11,
        cr3: 0,
        cr4: 0,
        efer: 0,
        rflags: 2,
        pkru: 0,
    };
}

/// The features of the virtual CPU that change how its page tables are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PagingPolicy {
    /// Width of a guest-physical address in bits (CPUID 0x8000_0008, eax bits 7:0), 32 to 52.
    #[doc(alias = "MAXPHYADDR")]
    pub address_bits: u8,
    /// Whether the guest's CPUID vendor is AMD, where bit 8 of a level 4 entry is reserved.
    pub is_amd: bool,
    /// Whether a level 3 entry can map 1 GiB (CPUID 0x8000_0001, edx bit 26).
    pub has_gib_pages: bool,
    /// Whether a 4 MiB page can lie above 4 GiB (CPUID 1, edx bit 17).
    pub has_pse36: bool,
}

impl PagingPolicy {
    /// Reads the features out of the guest's CPUID: `leaf` returns eax, ebx, ecx and edx of a leaf,
    /// subleaf 0, and zeros for one that is not there.
    pub fn from_cpuid(leaf: impl Fn(u32) -> [u32; 4]) -> Self {
        let [_, ebx, ecx, edx] = leaf(0);
        let vendor = [ebx, edx, ecx].map(u32::to_le_bytes);
        let [_, _, _, basic] = leaf(1);
        let [_, _, _, extended] = leaf(0x8000_0001);
        let [address, ..] = leaf(0x8000_0008);
        let [address_bits, ..] = address.to_le_bytes();
        Self {
            address_bits: if address_bits == 0 { 36 } else { address_bits },
            is_amd: matches!(vendor.as_flattened(), b"AuthenticAMD" | b"HygonGenuine"),
            has_gib_pages: extended & 1 << 26 != 0,
            has_pse36: basic & 1 << 17 != 0,
        }
    }
}

/// How linear addresses are translated.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PagingMode {
    /// CR0.PG is 0: a linear address is a physical one.
    Unpaged,
    /// 32-bit entries.
    TwoLevel,
    /// 64-bit entries, 32-bit linear addresses.
    Pae,
    /// Long mode, in 64-bit and in compatibility code.
    FourLevel,
}

impl PagingState {
    /// Returns the paging mode, by CR0.PG, EFER.LMA and CR4.PAE in this order; CR4.LA57 is not
    /// looked at, for a guest that is not shown 5-level paging cannot set it.
    #[must_use]
    pub const fn mode(&self) -> PagingMode {
        if self.cr0 & CR0_PG == 0 {
            PagingMode::Unpaged
        } else if self.efer & EFER_LMA != 0 {
            PagingMode::FourLevel
        } else if self.cr4 & CR4_PAE != 0 {
            PagingMode::Pae
        } else {
            PagingMode::TwoLevel
        }
    }

    pub(super) const fn has_large_pages_of_4_mib(&self) -> bool {
        self.cr4 & CR4_PSE != 0
    }

    pub(super) const fn has_no_execute(&self) -> bool {
        self.efer & EFER_NXE != 0
    }

    pub(super) const fn is_write_protected(&self) -> bool {
        self.cr0 & CR0_WP != 0
    }

    /// Whether the supervisor may not access user pages: CR4.SMAP is set and RFLAGS.AC clear.
    pub(super) const fn is_kept_from_user_pages(&self) -> bool {
        self.cr4 & CR4_SMAP != 0 && self.rflags & RFLAGS_AC == 0
    }

    pub(super) fn has_protection_keys(&self) -> bool {
        self.cr4 & CR4_PKE != 0 && self.mode() == PagingMode::FourLevel
    }
}

impl LinearAddress {
    /// Returns the address `len_bytes` further on, or `None` past 2^64 - 1.
    #[must_use]
    pub const fn checked_add(self, len_bytes: u64) -> Option<Self> {
        match self.0.checked_add(len_bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for LinearAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear {:#x}", self.0)
    }
}

impl fmt::LowerHex for LinearAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PKE: u64 = 1 << 22;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const RFLAGS_AC: u64 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves of a processor: its vendor, and the rest as given.
    fn cpuid(vendor: &[u8; 12], rest: fn(u32) -> [u32; 4]) -> PagingPolicy {
        let words = vendor.as_chunks::<4>().0;
        let [ebx, edx, ecx] = [words[0], words[1], words[2]].map(u32::from_le_bytes);
        let first = [0xd, ebx, ecx, edx];
        PagingPolicy::from_cpuid(|leaf| if leaf == 0 { first } else { rest(leaf) })
    }

    #[test]
    fn features_are_read_out_of_cpuid() {
        let policy = cpuid(b"AuthenticAMD", |leaf| match leaf {
            1 => [0, 0, 0, 1 << 17],
            0x8000_0001 => [0, 0, 0, 1 << 26],
            0x8000_0008 => [0x3028, 0, 0, 0],
            _ => [0; 4],
        });
        assert_eq!(policy.address_bits, 40);
        assert!(policy.is_amd && policy.has_gib_pages && policy.has_pse36);
        assert!(cpuid(b"HygonGenuine", |_| [0; 4]).is_amd);
        let bare = cpuid(b"GenuineIntel", |_| [0; 4]);
        assert_eq!(bare.address_bits, 36, "without the leaf");
        assert!(!bare.is_amd && !bare.has_gib_pages && !bare.has_pse36);
    }
}
