//! The ACPI tables of either platform, as bytes for an address.
//!
//! Neither platform is hardware-reduced, as Xen's is not: Linux takes a hardware-reduced platform
//! for one with EFI, reboots through EFI, and hangs where there is none. So both have a PM1a block
//! and name an SCI, which nothing raises.

mod encode;
mod plain;
mod xen;

#[cfg(test)]
pub(crate) mod reader;

pub(crate) use plain::PlainAcpi;
pub use xen::RsdpPlace;
pub(crate) use xen::XenAcpi;
