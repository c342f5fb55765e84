#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bell;
mod disk;
mod guest;
mod handshake;
mod host;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod model;
mod net;
mod pty;
mod threads;

pub use disk::{CacheMode, Disk, Image, ImageError, ImageOptions, attach_disk};
pub use guest::Guest;
pub use host::{DeviceKind, Host};
pub use net::{Link, MacAddress, Network, PasstError, attach_network, start_passt};
pub use pty::Pty;
pub use threads::{AttachError, Device, DeviceThreads, StuckDevice};
