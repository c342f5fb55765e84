#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acpi;
mod layout;
mod memory_map;
pub mod ports;
mod ram;

pub use acpi::RsdpPlace;
pub use layout::{Block, Layout, LayoutConfig, LayoutError, PageCounts, Platform};
pub use ram::{LOWMEM_END, RamSizeError, ram_layout};
