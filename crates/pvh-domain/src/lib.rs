#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod console;
pub mod domain;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod memory;
mod ring;
pub mod runstate;
pub mod shared_info;
pub mod store_ring;
mod target;
pub mod time;
#[cfg(feature = "trace")]
pub mod trace;
pub mod vcpu_info;

pub use pvh_xenstore::Shutdown;
pub use ring::RingError;
