#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod segment;
mod state;

#[cfg(feature = "kvm-bindings")]
mod kvm;

pub use segment::{DescriptorError, Segment, SegmentAttributes};
pub use state::{DescriptorTable, EntryError, EntryState, MTRR_DEF_TYPE, MTRR_DEF_TYPE_MSR};
