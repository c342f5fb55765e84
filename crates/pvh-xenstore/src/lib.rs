#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod boot;
mod client;
mod commit;
mod events;
mod handle;
mod host;
mod limits;
mod node;
mod operations;
mod outbox;
mod path;
mod permission;
mod store;
mod text;
mod toolstack;
mod transaction;
mod tree;
mod watch;
mod wire;

pub use boot::{ConsoleKeys, DomainKeys, RingKeys, Shutdown, pending_shutdown, request_shutdown};
pub use client::{ClientId, HostId};
pub use handle::NotTaken;
pub use host::{Event, Host, TransactionId};
pub use limits::{Limits, Usage};
pub use permission::{Access, Permission};
pub use store::{Store, StoreError};
pub use wire::{Header, MAX_PAYLOAD_BYTES, Message, MessageType};
