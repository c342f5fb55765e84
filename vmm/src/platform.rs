//! The choice of the platform, and the log of a Xen guest.

mod choice;
mod log;

pub(crate) use choice::{
    Choice, Guest, GuestKind, MAX_XEN_CPUS, Obstacle, Platform, Reason, choose,
};
pub(crate) use log::GuestLog;
