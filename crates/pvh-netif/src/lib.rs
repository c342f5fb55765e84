#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connect;
mod packet;
mod receive;
mod transmit;
mod wire;

pub use connect::{Channels, ConnectError, Features, FillsChecksums, Front, FrontQueue, Offloads};
pub use packet::{Checksum, Gso, GsoKind};
pub use receive::{DeliverError, Frame, Receive};
pub use transmit::{Next, Packet, Piece, Refusal, Status, Transmit, TransmitError};

/// The most bytes of a packet, both ways.
pub const MAX_PACKET_BYTES: usize = 0xFFFF;
/// The most requests that one packet of the guest's may take: what Linux's front end assumes.
pub const MAX_SLOTS: usize = 18;
