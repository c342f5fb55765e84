//! The choice of the platform, and the log of a Xen guest.

mod choice;
mod log;

pub(crate) use choice::{Choice, Guest, Obstacle, Platform, Reason, choose};
pub(crate) use log::GuestLog;
