#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod elf;
#[cfg(feature = "oracles")]
pub mod oracle;
#[cfg(feature = "oracles")]
pub mod seeds;
