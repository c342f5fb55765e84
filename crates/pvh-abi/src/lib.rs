#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod cpuid;
pub mod elfnote;
pub mod errno;
pub mod hypercall;
mod open_set;
pub mod start_info;
pub mod vcpu;

pub use address::Gpa;
pub use errno::Errno;
