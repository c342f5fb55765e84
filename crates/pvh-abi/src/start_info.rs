//! The start-of-day structure in its three generations
//! (xen/include/public/arch-x86/hvm/start_info.h).
//!
//! All fields are little endian, and 0 in an address field means "absent".

use core::fmt;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

/// The value of the first field in every generation: "xEn3" with bit 7 of "E" set.
#[doc(alias = "XEN_HVM_START_MAGIC_VALUE")]
pub const START_INFO_MAGIC: u32 = 0x336e_c578;

/// The 20-byte structure of the first text (2015, HVMlite): 32-bit fields, no version.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct StartInfoDraft {
    /// [`START_INFO_MAGIC`].
    pub magic: U32,
    /// SIF_* bits, see [`StartInfoFlags`].
    pub flags: U32,
    /// Guest-physical address of the NUL-terminated command line.
    pub cmdline_paddr: U32,
    /// Number of entries in the module table.
    pub nr_modules: U32,
    /// Guest-physical address of an array of [`ModuleEntryDraft`].
    pub modlist_paddr: U32,
}

const _: () = assert!(size_of::<StartInfoDraft>() == 20);

/// Version 0 of the structure, 40 bytes (Xen 4.7 and later).
#[doc(alias = "hvm_start_info")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct StartInfoV0 {
    /// [`START_INFO_MAGIC`].
    pub magic: U32,
    /// 0, or 1 when the fields of [`StartInfoV1`] follow.
    pub version: U32,
    /// SIF_* bits, see [`StartInfoFlags`].
    pub flags: U32,
    /// Number of entries in the module table.
    pub nr_modules: U32,
    /// Guest-physical address of an array of [`ModuleEntry`].
    pub modlist_paddr: U64,
    /// Guest-physical address of the NUL-terminated command line.
    pub cmdline_paddr: U64,
    /// Guest-physical address of the ACPI RSDP.
    pub rsdp_paddr: U64,
}

const _: () = assert!(size_of::<StartInfoV0>() == 40);
const _: () = assert!(core::mem::offset_of!(StartInfoV0, modlist_paddr) == 16);

/// Version 1 of the structure, 56 bytes (Xen 4.11 and later): version 0 and a memory map.
#[doc(alias = "hvm_start_info")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct StartInfoV1 {
    /// The fields of version 0, with `version` 1.
    pub v0: StartInfoV0,
    /// Guest-physical address of an array of [`MemmapEntry`].
    pub memmap_paddr: U64,
    /// Number of entries in the memory map; 0 when there is none.
    pub memmap_entries: U32,
    /// Must be 0.
    pub reserved: U32,
}

const _: () = assert!(size_of::<StartInfoV1>() == 56);
const _: () = assert!(core::mem::offset_of!(StartInfoV1, memmap_entries) == 48);

/// A module table entry of the first text, 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ModuleEntryDraft {
    /// Guest-physical address of the module.
    pub paddr: U32,
    /// Its length in bytes.
    pub size: U32,
}

const _: () = assert!(size_of::<ModuleEntryDraft>() == 8);

/// A module table entry of versions 0 and 1, 32 bytes.
#[doc(alias = "hvm_modlist_entry")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ModuleEntry {
    /// Guest-physical address of the module.
    pub paddr: U64,
    /// Its length in bytes.
    pub size: U64,
    /// Guest-physical address of its NUL-terminated command line, 0 for none.
    pub cmdline_paddr: U64,
    /// Must be 0.
    pub reserved: U64,
}

const _: () = assert!(size_of::<ModuleEntry>() == 32);

/// A memory map entry of version 1, 24 bytes.
#[doc(alias = "hvm_memmap_table_entry")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct MemmapEntry {
    /// Guest-physical address of the range.
    pub addr: U64,
    /// Its length in bytes.
    pub size: U64,
    /// Its kind, see [`MemmapKind`].
    pub kind: U32,
    /// Must be 0.
    pub reserved: U32,
}

const _: () = assert!(size_of::<MemmapEntry>() == 24);
const _: () = assert!(core::mem::offset_of!(MemmapEntry, kind) == 16);

/// The kind of a memory map entry, with the numbers of E820. The set is open.
#[doc(alias = "XEN_HVM_MEMMAP_TYPE")]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemmapKind(pub u32);

impl MemmapKind {
    /// Usable memory.
    pub const RAM: Self = Self(1);
    /// Must not be used.
    pub const RESERVED: Self = Self(2);
    /// ACPI tables, usable once they have been read.
    pub const ACPI: Self = Self(3);
    /// ACPI non-volatile storage.
    pub const NVS: Self = Self(4);
    /// Memory with errors.
    pub const UNUSABLE: Self = Self(5);
    /// Memory that is not enabled.
    pub const DISABLED: Self = Self(6);
    /// Persistent memory.
    pub const PMEM: Self = Self(7);
}

impl fmt::Display for MemmapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::RAM => "RAM",
            Self::RESERVED => "reserved",
            Self::ACPI => "ACPI",
            Self::NVS => "NVS",
            Self::UNUSABLE => "unusable",
            Self::DISABLED => "disabled",
            Self::PMEM => "PMEM",
            Self(other) => return write!(f, "type {other}"),
        })
    }
}

/// The flags field: SIF_* bits (xen/include/public/xen.h). The set is open.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct StartInfoFlags(pub u32);

impl StartInfoFlags {
    /// No flag: an ordinary guest.
    pub const NONE: Self = Self(0);
    /// The domain is privileged.
    #[doc(alias = "SIF_PRIVILEGED")]
    pub const PRIVILEGED: Self = Self(1);
    /// The domain is the initial control domain.
    #[doc(alias = "SIF_INITDOMAIN")]
    pub const INITDOMAIN: Self = Self(1 << 1);
    /// The module is a multiboot structure (PV only).
    #[doc(alias = "SIF_MULTIBOOT_MOD")]
    pub const MULTIBOOT_MOD: Self = Self(1 << 2);
    /// The module is named by its frame number (PV only).
    #[doc(alias = "SIF_MOD_START_PFN")]
    pub const MOD_START_PFN: Self = Self(1 << 3);
    /// The P2M is mapped for the tools (PV only).
    #[doc(alias = "SIF_VIRT_P2M_4TOOLS")]
    pub const VIRT_P2M_4TOOLS: Self = Self(1 << 4);
    /// Bits reserved for power management options.
    #[doc(alias = "SIF_PM_MASK")]
    pub const PM_MASK: Self = Self(0xff << 8);

    /// Returns the flags of both.
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
    use core::mem::offset_of;

    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn the_magic_is_the_byte_string_of_the_text() {
        assert_eq!(
            U32::new(START_INFO_MAGIC).as_bytes(),
            [0x78, 0xc5, 0x6e, 0x33]
        );
    }

    #[test]
    fn offsets_are_those_of_the_header() {
        assert_eq!(offset_of!(StartInfoDraft, nr_modules), 12);
        assert_eq!(offset_of!(StartInfoDraft, modlist_paddr), 16);
        assert_eq!(offset_of!(StartInfoV0, nr_modules), 12);
        assert_eq!(offset_of!(StartInfoV0, cmdline_paddr), 24);
        assert_eq!(offset_of!(StartInfoV0, rsdp_paddr), 32);
        assert_eq!(offset_of!(StartInfoV1, memmap_paddr), 40);
        assert_eq!(offset_of!(StartInfoV1, reserved), 52);
        assert_eq!(offset_of!(ModuleEntry, cmdline_paddr), 16);
        assert_eq!(offset_of!(MemmapEntry, reserved), 20);
    }

    #[test]
    fn flags_are_those_of_the_header() {
        assert_eq!(
            StartInfoFlags::PRIVILEGED
                .union(StartInfoFlags::INITDOMAIN)
                .0,
            3
        );
        let of_pv = [
            StartInfoFlags::MULTIBOOT_MOD,
            StartInfoFlags::MOD_START_PFN,
            StartInfoFlags::VIRT_P2M_4TOOLS,
        ];
        assert_eq!(of_pv.map(|flag| flag.0), [4, 8, 16]);
        assert_eq!(StartInfoFlags::PM_MASK.0, 0xff00);
        assert_eq!(StartInfoFlags(3).union(StartInfoFlags(6)).0, 7);
        assert!(StartInfoFlags(3).contains(StartInfoFlags::INITDOMAIN));
        assert!(!StartInfoFlags(1).contains(StartInfoFlags::INITDOMAIN));
    }

    #[test]
    fn kinds_of_memory_are_shown_by_name_or_number() {
        extern crate std;
        use std::string::ToString;
        let shown = [1, 2, 3, 4, 5, 6, 7, 8].map(|kind| MemmapKind(kind).to_string());
        let named = ["RAM", "reserved", "ACPI", "NVS"];
        assert_eq!(shown[..4], named);
        assert_eq!(shown[4..], ["unusable", "disabled", "PMEM", "type 8"]);
    }
}
