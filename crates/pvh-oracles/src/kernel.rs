//! The kernel inside packed images.

use pvh_testkit::elf::{Class, Elf};

/// Builds a bootable kernel, not packed yet.
pub(crate) fn kernel() -> Vec<u8> {
    Elf::bootable(Class::Elf64, 0x10_0000)
        .trailer(b"runs runs runs runs runs runs ".repeat(3))
        .build()
}
