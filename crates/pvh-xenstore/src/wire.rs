//! Messages on the wire: header, types and payload (xen/include/public/io/xs_wire.h).

use std::sync::Arc;

use pvh_abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

/// The longest payload of a message in bytes, in both directions.
#[doc(alias = "XENSTORE_PAYLOAD_MAX")]
pub const MAX_PAYLOAD_BYTES: usize = 4096;

/// The 16 bytes before each payload.
#[doc(alias = "xsd_sockmsg")]
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct Header {
    /// A [`MessageType`].
    pub kind: U32,
    /// Chosen by the client; the reply has the same.
    pub request_id: U32,
    /// The transaction that the request belongs to, or 0; the reply has the same.
    pub transaction_id: U32,
    /// Length of the payload in bytes.
    pub len_bytes: U32,
}

const _: () = assert!(size_of::<Header>() == 16);
const _: () = assert!(std::mem::offset_of!(Header, request_id) == 4);
const _: () = assert!(std::mem::offset_of!(Header, transaction_id) == 8);
const _: () = assert!(std::mem::offset_of!(Header, len_bytes) == 12);

/// Size of a header in bytes.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();

impl Header {
    /// Makes the header of a message with this payload.
    #[must_use]
    pub fn new(kind: MessageType, request_id: u32, transaction_id: u32, payload: &[u8]) -> Self {
        Self {
            kind: U32::new(kind.0),
            request_id: U32::new(request_id),
            transaction_id: U32::new(transaction_id),
            len_bytes: U32::new(u32::try_from(payload.len()).unwrap_or(u32::MAX)),
        }
    }
}

/// A message for a client: a reply or a watch event.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Its type, and the ids of the request that it answers.
    pub header: Header,
    /// Its payload, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Arc<[u8]>,
}

/// The type of a message. A client may send any number.
#[doc(alias = "xsd_sockmsg_type")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MessageType(pub u32);

/// Declares the named message types.
macro_rules! message_types {
    ($( $name:ident = $value:literal: $what:literal; )*) => {
        impl MessageType {
            $( #[doc = $what] pub const $name: Self = Self($value); )*
        }
    };
}

message_types! {
    CONTROL = 0: "Commands to the daemon; privileged.";
    DIRECTORY = 1: "Names of a node's children.";
    READ = 2: "A node's value.";
    GET_PERMS = 3: "A node's permissions.";
    WATCH = 4: "Sets a watch on a node and all nodes below.";
    UNWATCH = 5: "Removes a watch.";
    TRANSACTION_START = 6: "Starts a transaction.";
    TRANSACTION_END = 7: "Commits or drops a transaction.";
    INTRODUCE = 8: "Connects a domain; privileged.";
    RELEASE = 9: "Disconnects a domain; privileged.";
    GET_DOMAIN_PATH = 10: "A domain's home, at which its relative paths begin.";
    WRITE = 11: "Sets a node's value.";
    MKDIR = 12: "Makes a node exist.";
    RM = 13: "Removes a node and all nodes below.";
    SET_PERMS = 14: "Sets a node's permissions.";
    WATCH_EVENT = 15: "Something watched has changed; from the server only.";
    ERROR = 16: "A refusal; from the server only.";
    IS_DOMAIN_INTRODUCED = 17: "Whether a domain is connected; privileged.";
    RESUME = 18: "A domain runs again; privileged.";
    SET_TARGET = 19: "Gives a domain the rights of another; privileged.";
    RESTRICT = 20: "No longer served.";
    RESET_WATCHES = 21: "Drops all watches and transactions of the caller.";
    DIRECTORY_PART = 22: "Names of a node's children from an offset on.";
    GET_FEATURE = 23: "Newer than 4.17.";
    SET_FEATURE = 24: "Newer than 4.17.";
    GET_QUOTA = 25: "Newer than 4.17.";
    SET_QUOTA = 26: "Newer than 4.17.";
    INVALID = 65535: "Never a type.";
}

/// Returns the payload of an ERROR reply: the error's name and a NUL.
pub(crate) fn error_payload(errno: Errno) -> Vec<u8> {
    let name = errno.name().unwrap_or("EINVAL");
    [name.as_bytes(), b"\0"].concat()
}
