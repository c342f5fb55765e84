#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod report;

/// Returns the demo guest: an ELF32 image with a `PHYS32_ENTRY` note, which prints what it finds at entry
/// on COM1 and powers off by ACPI.
#[must_use]
pub fn demo_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/demo.elf"))
}
