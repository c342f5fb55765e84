#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod budget;
mod call;
mod cpuid;
mod dispatch;
pub mod group;
mod guest;
mod page;
mod refused;
mod table;
mod xen_version;

pub use budget::Budget;
pub use call::{Call, Caller, Mode, Registers, Width};
pub use cpuid::{CpuidConfig, CpuidLeaf, TscInfo};
pub use dispatch::{Handler, Outcome, dispatch, dispatch_within};
pub use guest::{Fault, Guest, GuestArray, GuestIo, Word};
pub use page::{
    HYPERCALL_PORT, MSR_READ, PageError, Stub, decode_msr_write, hypercall_page, write_msr,
};
pub use table::{Availability, availability};
pub use xen_version::{Answers, UnknownVersion, XenVersion};
