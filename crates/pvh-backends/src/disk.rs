//! Disks: files and block devices of the host, which the guest has as block devices.
//!
//! One thread for each disk serves the guest's requests, one after the other.

mod back_end;
mod image;

use std::sync::Arc;

pub use back_end::attach_disk;
pub use image::{CacheMode, Image, ImageError, ImageOptions};

/// A disk with its name in the guest. Its image stays open, and locked, when the guest reboots.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The file or block device.
    pub image: Arc<Image>,
    /// `xvda` for example.
    pub name: String,
    /// The number that stands for the name in the store: [`pvh_blkif::virtual_device`].
    pub number: u32,
}
