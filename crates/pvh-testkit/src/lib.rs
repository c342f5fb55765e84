#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod bzimage;
pub mod elf;
pub mod paging;
