//! Disks: files and block devices of the host, which the guest has as block devices.
//!
//! One thread for each disk serves the guest's requests, one after the other.

mod back_end;
mod bell;
mod guest;
mod image;
mod names;
mod threads;

pub(crate) use back_end::{AttachError, DiskBackEnd};
pub(crate) use names::{DiskError, Disks};
pub(crate) use threads::{DiskThreads, StuckDisk};
