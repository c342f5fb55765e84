#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ram;

pub use ram::{LOWMEM_END, RamSizeError, ram_layout};
