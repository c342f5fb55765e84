//! Xen ELF notes: their numbers and the layout of a note record.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

use crate::open_set::open_set;

/// The owner name of a Xen note, without its terminating NUL.
pub const XEN_NOTE_NAME: &[u8; 3] = b"Xen";

/// The padding unit of a note's name and descriptor in bytes, for ELF32 and ELF64 alike.
pub const NOTE_ALIGN: u64 = 4;

open_set! {
    /// The type of a note whose owner is "Xen" (xen/include/public/elfnote.h).
    #[doc(alias = "XEN_ELFNOTE")]
    XenNoteType: u32 {
        /// Deprecated key list, `NAME=VALUE` pairs.
        INFO = 0,
        /// Virtual entry point of a PV kernel.
        ENTRY = 1,
        /// Virtual address of the PV hypercall page.
        HYPERCALL_PAGE = 2,
        /// Virtual base of a PV kernel.
        VIRT_BASE = 3,
        /// Offset of `p_paddr` for a PV kernel.
        PADDR_OFFSET = 4,
        /// The Xen version the kernel was made for, a string such as "xen-3.0".
        XEN_VERSION = 5,
        /// The guest operating system, a string such as "linux".
        GUEST_OS = 6,
        /// The guest's version, a string.
        GUEST_VERSION = 7,
        /// The loader that the kernel needs, a string such as "generic".
        LOADER = 8,
        /// PAE support of a PV kernel, a string.
        PAE_MODE = 9,
        /// Feature names separated by `|`, a leading `!` meaning required.
        FEATURES = 10,
        /// Whether the loader should load the symbol table, "yes" or "no".
        BSD_SYMTAB = 11,
        /// Lowest address the hypervisor may use, PV only.
        HV_START_LOW = 12,
        /// Masks and values of a valid L1 entry, PV only.
        L1_MFN_VALID = 13,
        /// Whether the guest supports a cancelled suspend.
        SUSPEND_CANCEL = 14,
        /// Virtual address of the initial P2M, PV only.
        INIT_P2M = 15,
        /// Whether the module may be handed over by its frame number.
        MOD_START_PFN = 16,
        /// Bitmap of the features the kernel can run with.
        SUPPORTED_FEATURES = 17,
        /// Physical 32-bit entry point; it makes an image bootable through PVH.
        PHYS32_ENTRY = 18,
        /// The kernel may be moved in guest-physical space: alignment, minimum, maximum.
        PHYS32_RELOC = 19,
        /// Facts for a crash dump.
        CRASH_INFO = 0x100_0001,
        /// Registers for a crash dump.
        CRASH_REGS = 0x100_0002,
        /// A core dump without contents.
        DUMPCORE_NONE = 0x200_0000,
        /// The header of a core dump.
        DUMPCORE_HEADER = 0x200_0001,
        /// The Xen version that made a core dump.
        DUMPCORE_XEN_VERSION = 0x200_0002,
        /// The format version of a core dump.
        DUMPCORE_FORMAT_VERSION = 0x200_0003,
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
