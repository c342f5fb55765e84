#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connect;
mod disk;
mod queue;
mod request;
mod segments;
mod vdev;
mod wire;

pub use connect::{ConnectError, Front, FrontQueue};
pub use disk::{DiscardSupport, Disk, DiskError, Features};
pub use queue::{Next, Queue};
pub use request::{Action, Area, Io, Piece, Refusal, Request, Status};
pub use vdev::{VdevError, virtual_device};
pub use wire::{Operation, Protocol};

/// The size of a sector of the protocol in bytes, whatever the disk's own is.
pub const SECTOR_BYTES: u32 = 512;
/// The most segments of a request that carries them itself.
pub const MAX_DIRECT_SEGMENTS: usize = 11;
/// The most segments of an indirect request that this back end takes: 1 MiB of data.
pub const MAX_INDIRECT_SEGMENTS: u16 = 256;
