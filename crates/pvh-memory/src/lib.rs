#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod frames;
mod guest_memory;
mod linear;
#[cfg(feature = "std")]
mod map;
mod pages;
mod slice;
mod vec;
#[cfg(feature = "vm-memory")]
mod vm;
mod word;

pub use error::MemoryError;
pub use frames::{FrameError, FrameStep, Frames};
pub use guest_memory::GuestMemory;
pub use linear::{
    Access, LinearAddress, LinearFault, LinearMemory, PagingMode, PagingPolicy, PagingState,
    WalkStep, WalkTrace,
};
#[cfg(feature = "std")]
pub use map::{FileRange, FillError, MapError};
pub use pages::{Pages, PagesError};
pub use slice::SliceMemory;
pub use vec::{RangesError, VecMemory};
#[cfg(feature = "vm-memory")]
pub use vm::VmMemory;
pub use word::WordOp;
