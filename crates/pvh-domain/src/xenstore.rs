//! The store: a small tree of text that the toolstack and guests share (docs/misc/xenstore.txt of Xen).
//!
//! [`Store`] is the server without any I/O: [`Store::handle`] takes one request of one domain, replies and watch events wait
//! to be fetched by [`Store::take_message`]. [`StoreRing`] carries them through the page a guest shares.
//! [`DomainKeys`] writes the keys a guest reads at boot, [`request_shutdown`] asks it to stop.
//!
//! Answers are those of Xen 4.17's C xenstored. What a guest can make grow is bounded by [`Limits`].

mod boot;
mod commit;
mod events;
mod handle;
mod limits;
mod node;
mod outbox;
mod path;
mod permission;
mod store;
mod text;
mod toolstack;
mod transaction;
mod transport;
mod tree;
mod watch;
mod wire;

pub use boot::{ConsoleKeys, DomainKeys, RingKeys, Shutdown, pending_shutdown, request_shutdown};
pub use handle::NotTaken;
pub use limits::{Limits, Usage};
pub use permission::{Access, Permission};
pub use store::{Store, StoreError};
pub use transport::{Progress, StoreRing};
pub use wire::{Header, MAX_PAYLOAD_BYTES, Message, MessageType};
