#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod blkif;
pub mod bzimage;
pub mod elf;
pub mod grants;
pub mod netif;
pub mod paging;
pub mod racing;
pub mod ring;
