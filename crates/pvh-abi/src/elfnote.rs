//! Xen ELF notes: their numbers and the layout of a note record.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

/// The owner name of a Xen note, without its terminating NUL.
pub const XEN_NOTE_NAME: &[u8; 3] = b"Xen";

/// The padding unit of a note's name and descriptor in bytes, for ELF32 and ELF64 alike.
pub const NOTE_ALIGN: u64 = 4;

/// The type of a note whose owner is "Xen" (xen/include/public/elfnote.h).
///
/// The set is open: an unknown number is kept as it is.
#[doc(alias = "XEN_ELFNOTE")]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct XenNoteType(pub u32);

impl XenNoteType {
    /// Deprecated key list, `NAME=VALUE` pairs.
    pub const INFO: Self = Self(0);
    /// Virtual entry point of a PV kernel.
    pub const ENTRY: Self = Self(1);
    /// Virtual address of the PV hypercall page.
    pub const HYPERCALL_PAGE: Self = Self(2);
    /// Virtual base of a PV kernel.
    pub const VIRT_BASE: Self = Self(3);
    /// Offset of `p_paddr` for a PV kernel.
    pub const PADDR_OFFSET: Self = Self(4);
    /// The Xen version the kernel was made for, a string such as "xen-3.0".
    pub const XEN_VERSION: Self = Self(5);
    /// The guest operating system, a string such as "linux".
    pub const GUEST_OS: Self = Self(6);
    /// The guest's version, a string.
    pub const GUEST_VERSION: Self = Self(7);
    /// The loader the kernel wants, a string such as "generic".
    pub const LOADER: Self = Self(8);
    /// PAE support of a PV kernel, a string.
    pub const PAE_MODE: Self = Self(9);
    /// Feature names separated by `|`, a leading `!` meaning required.
    pub const FEATURES: Self = Self(10);
    /// Whether the symbol table is to be loaded, "yes" or "no".
    pub const BSD_SYMTAB: Self = Self(11);
    /// Lowest address the hypervisor may use, PV only.
    pub const HV_START_LOW: Self = Self(12);
    /// Masks and values of a valid L1 entry, PV only.
    pub const L1_MFN_VALID: Self = Self(13);
    /// Whether the guest copes with a cancelled suspend.
    pub const SUSPEND_CANCEL: Self = Self(14);
    /// Virtual address of the initial P2M, PV only.
    pub const INIT_P2M: Self = Self(15);
    /// Whether the module may be handed over by its frame number.
    pub const MOD_START_PFN: Self = Self(16);
    /// Bitmap of the features the kernel can run with.
    pub const SUPPORTED_FEATURES: Self = Self(17);
    /// Physical 32-bit entry point: what makes an image bootable through PVH.
    pub const PHYS32_ENTRY: Self = Self(18);
    /// The kernel may be moved in guest-physical space: alignment, minimum, maximum.
    pub const PHYS32_RELOC: Self = Self(19);

    /// Returns the name the Xen headers give this type, without the `XEN_ELFNOTE_` prefix.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 20] = [
            "INFO",
            "ENTRY",
            "HYPERCALL_PAGE",
            "VIRT_BASE",
            "PADDR_OFFSET",
            "XEN_VERSION",
            "GUEST_OS",
            "GUEST_VERSION",
            "LOADER",
            "PAE_MODE",
            "FEATURES",
            "BSD_SYMTAB",
            "HV_START_LOW",
            "L1_MFN_VALID",
            "SUSPEND_CANCEL",
            "INIT_P2M",
            "MOD_START_PFN",
            "SUPPORTED_FEATURES",
            "PHYS32_ENTRY",
            "PHYS32_RELOC",
        ];
        let mut number = 0_u32;
        let mut rest: &[&'static str] = &NAMES;
        while let [first, others @ ..] = rest {
            if number == self.0 {
                return Some(first);
            }
            number = number.saturating_add(1);
            rest = others;
        }
        None
    }
}

/// The fixed head of a note record; name and descriptor follow, each padded to [`NOTE_ALIGN`].
#[doc(alias = "Elf32_Nhdr")]
#[doc(alias = "Elf64_Nhdr")]
#[doc(alias = "elf_note")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct NoteHeader {
    /// Length of the name in bytes, its NUL included, padding excluded.
    pub name_size: U32,
    /// Length of the descriptor in bytes, padding excluded.
    pub desc_size: U32,
    /// The type, whose meaning depends on the name.
    pub kind: U32,
}

const _: () = assert!(size_of::<NoteHeader>() == 12);

#[cfg(test)]
mod tests {
    use super::XenNoteType;

    #[test]
    fn the_numbers_are_those_of_the_xen_header() {
        assert_eq!(XenNoteType(18).name(), Some("PHYS32_ENTRY"));
        assert_eq!(XenNoteType(0).name(), Some("INFO"));
        assert_eq!(XenNoteType(19).name(), Some("PHYS32_RELOC"));
        assert_eq!(XenNoteType(20).name(), None);
        assert_eq!(XenNoteType::SUPPORTED_FEATURES, XenNoteType(17));
        assert_eq!(XenNoteType::GUEST_OS.name(), Some("GUEST_OS"));
    }
}
