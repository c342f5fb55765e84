#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod cpuid;
pub mod domain;
pub mod elfnote;
pub mod errno;
mod error_line;
pub mod event_channel;
pub mod grant;
pub mod hvm;
pub mod hypercall;
pub mod memory;
pub mod multicall;
mod open_set;
pub mod sched;
pub mod special_pages;
pub mod start_info;
pub mod vcpu;
pub mod version;
mod wire;

pub use address::{Gpa, GuestRange};
pub use domain::DomId;
pub use errno::Errno;
pub use error_line::ErrorLine;
