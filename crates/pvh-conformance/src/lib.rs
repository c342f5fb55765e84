#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod known;
pub mod report;
pub mod selection;
pub mod summary;
pub mod tap;

/// Returns the demo guest: an ELF32 image with a `PHYS32_ENTRY` note, which prints what it finds at entry
/// on COM1 and powers off by ACPI, or as a Xen guest.
#[must_use]
pub fn demo_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/demo.elf"))
}

/// Returns the demo guest for the draft of the start info: 20 bytes, with 8-byte module entries.
///
/// No field tells the draft from later versions, so that needs an image of its own. The draft has no
/// RSDP, so this guest powers off on Xen only, and elsewhere halts with interrupts off.
#[must_use]
pub fn draft_demo_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/demo-draft.elf"))
}

/// Returns the soak guest: on the Xen platform with 4 vCPUs, it takes them up and down at random, by `VCPUOP_*` from every
/// one of them, says on COM1 whether each did what it was told (`soak: ok` or `soak: failed`), and powers off.
///
/// Its command line may hold `seed=` and a hexadecimal number, to which it adds its clock; `exact=` and the number that
/// it told, to do the same again; and `reboot`, to reboot in the end.
#[must_use]
pub fn soak_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/soak.elf"))
}

/// Returns the conformance guest: on the Xen platform with 4 vCPUs and 64 MiB it makes every call that a PVH domain has, from
/// 32- and from 64-bit code, starts secondary vCPUs in each mode, says what it found, one check a line ([`tap::Tap`]),
/// on the PV console (on COM1 or port 0xE9 where there is none), and powers off.
///
/// Its command line may hold `only=` or `no=` and names of sections, with commas between them ([`selection`]).
#[must_use]
pub fn conformance_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/conformance.elf"))
}

/// Returns what the conformance guest reported on Xen 4.17.5, with the command line `no=pae`.
#[must_use]
pub fn report_of_xen() -> &'static str {
    include_str!("../results/xen-4.17.tap")
}

/// Returns what it reported on this project's own VMM, on a KVM that emulates instructions.
#[must_use]
pub fn report_of_pvh_vmm() -> &'static str {
    include_str!("../results/pvh-vmm.tap")
}
