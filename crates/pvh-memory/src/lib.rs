//! Guest memory as one small trait.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

#[cfg(not(feature = "std"))]
extern crate alloc;

mod error;
mod guest_memory;
#[cfg(feature = "std")]
mod map;

pub use error::MemoryError;
pub use guest_memory::{GuestMemory, WordOp};
#[cfg(feature = "std")]
pub use map::{FileRange, MapError};
