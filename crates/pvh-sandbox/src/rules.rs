//! The allow-lists: groups of rules, which the roles put together.

mod files;
mod kvm;
mod process;
mod runtime;
mod user;

pub(crate) use files::{CACHE, COPY, DISK, NET, STAT};
pub(crate) use kvm::{INTERRUPTS, MACHINE, MEMORY_SLOTS, VCPU};
pub(crate) use process::{DESCRIPTORS, THREADS};
pub(crate) use runtime::RUNTIME;
pub(crate) use user::{EVENTS, TERMINAL};
