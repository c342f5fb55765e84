#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod core_dump;
mod explain;
mod idt;
mod symbols;
mod wire;

pub use core_dump::{CoreDump, DumpError, Dumped};
pub use explain::{Scene, explain};
pub use symbols::{ElfBytes, Symbols};
