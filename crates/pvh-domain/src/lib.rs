#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod console;
mod ring;
pub mod xenstore;

pub use ring::RingError;
