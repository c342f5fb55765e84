//! Which platform a guest gets, and where the log of a Xen guest goes.

mod choice;
mod log;

pub(crate) use choice::{
    Choice, Guest, GuestKind, MAX_XEN_CPUS, Obstacle, Platform, Reason, choose,
};
pub(crate) use log::GuestLog;
