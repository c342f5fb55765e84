#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod report;

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
