//! The choice of the platform.

mod choice;

pub(crate) use choice::{Choice, Guest, Obstacle, Platform, Reason, choose};
