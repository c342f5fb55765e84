#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod context;
mod error;
mod lifecycle;
mod segments;
mod set;
#[cfg(feature = "std")]
mod shared;
mod sipi;
#[cfg(feature = "std")]
mod sync;

pub use context::{CpuPolicy, decode_context};
pub use error::{ContextError, Register, VcpuError};
pub use lifecycle::{Event, State};
pub use set::{Effect, MAX_VCPUS, Orders, Vcpu, VcpuSet};
#[cfg(feature = "std")]
pub use shared::SharedVcpuSet;
pub use sipi::sipi_state;
