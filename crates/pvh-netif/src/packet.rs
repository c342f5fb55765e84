//! What the two ends tell each other about a packet besides its bytes.

/// What is known of a packet's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "netif.h has these three")]
pub enum Checksum {
    /// Nothing: the packet is as it was on a wire.
    #[default]
    Complete,
    /// The sender vouches for it.
    Validated,
    /// The field holds the sum of the pseudo-header alone; whoever sends the packet on fills it in.
    /// The data is vouched for.
    Blank,
}

/// A packet that is larger than the link allows, to be cut up by whoever sends it on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "netif.h has these fields")]
pub struct Gso {
    /// How to cut it.
    pub kind: GsoKind,
    /// The most payload of each part, in bytes; not 0.
    pub segment_bytes: u16,
}

/// `XEN_NETIF_GSO_TYPE_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "netif.h has these two")]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

impl GsoKind {
    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::TcpV4),
            2 => Some(Self::TcpV6),
            _ => None,
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::TcpV4 => 1,
            Self::TcpV6 => 2,
        }
    }
}
