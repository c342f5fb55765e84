//! The bytes of requests, responses and extra-info, which are alike for 32- and 64-bit guests.

use crate::{Checksum, Gso, GsoKind};

/// A request of the transmit ring, 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxRequest {
    pub(crate) reference: u32,
    pub(crate) offset: u16,
    pub(crate) flags: u16,
    pub(crate) id: u16,
    pub(crate) size: u16,
}

impl TxRequest {
    pub(crate) fn of(bytes: &[u8; TX_SLOT]) -> Self {
        let [r0, r1, r2, r3, o0, o1, f0, f1, i0, i1, s0, s1] = *bytes;
        Self {
            reference: u32::from_le_bytes([r0, r1, r2, r3]),
            offset: u16::from_le_bytes([o0, o1]),
            flags: u16::from_le_bytes([f0, f1]),
            id: u16::from_le_bytes([i0, i1]),
            size: u16::from_le_bytes([s0, s1]),
        }
    }

    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn checksum(&self) -> Checksum {
        if self.has(TXF_CSUM_BLANK) {
            Checksum::Blank
        } else if self.has(TXF_DATA_VALIDATED) {
            Checksum::Validated
        } else {
            Checksum::Complete
        }
    }
}

/// An extra-info, the first 8 bytes of its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    pub(crate) kind: u8,
    pub(crate) has_more: bool,
    pub(crate) segment_bytes: u16,
    pub(crate) gso_kind: u8,
}

impl Extra {
    pub(crate) fn of(bytes: &[u8; TX_SLOT]) -> Self {
        let [kind, flags, s0, s1, gso_kind, ..] = *bytes;
        Self {
            kind,
            has_more: flags & EXTRA_FLAG_MORE != 0,
            segment_bytes: u16::from_le_bytes([s0, s1]),
            gso_kind,
        }
    }

    /// The extra-info that announces a large packet, as a receive response.
    pub(crate) const fn of_gso(gso: Gso) -> [u8; RX_SLOT] {
        let [s0, s1] = gso.segment_bytes.to_le_bytes();
        [EXTRA_GSO, 0, s0, s1, gso.kind.number(), 0, 0, 0]
    }

    pub(crate) fn gso(&self) -> Option<Gso> {
        let kind = GsoKind::of_number(self.gso_kind)?;
        (self.segment_bytes != 0).then_some(Gso {
            kind,
            segment_bytes: self.segment_bytes,
        })
    }
}

/// A response of the transmit ring: 4 bytes.
pub(crate) const fn tx_response(id: u16, status: i16) -> [u8; 4] {
    let [i0, i1] = id.to_le_bytes();
    let [s0, s1] = status.to_le_bytes();
    [i0, i1, s0, s1]
}

/// A request of the receive ring: its id and the reference of its page.
pub(crate) const fn rx_request(bytes: &[u8; RX_SLOT]) -> (u16, u32) {
    let [i0, i1, _, _, r0, r1, r2, r3] = *bytes;
    (
        u16::from_le_bytes([i0, i1]),
        u32::from_le_bytes([r0, r1, r2, r3]),
    )
}

/// A response of the receive ring, the data at offset 0 of its page.
pub(crate) const fn rx_response(id: u16, flags: u16, status: i16) -> [u8; RX_SLOT] {
    let [i0, i1] = id.to_le_bytes();
    let [f0, f1] = flags.to_le_bytes();
    let [s0, s1] = status.to_le_bytes();
    [i0, i1, 0, 0, f0, f1, s0, s1]
}

/// The flags of a packet's first receive response.
pub(crate) const fn rx_flags(checksum: Checksum) -> u16 {
    match checksum {
        Checksum::Complete => 0,
        Checksum::Validated => RXF_DATA_VALIDATED,
        Checksum::Blank => RXF_CSUM_BLANK | RXF_DATA_VALIDATED,
    }
}

/// The size of a slot of the transmit ring.
pub(crate) const TX_SLOT: usize = 12;
/// The size of a slot of the receive ring.
pub(crate) const RX_SLOT: usize = 8;

const TXF_CSUM_BLANK: u16 = 1;
const TXF_DATA_VALIDATED: u16 = 1 << 1;
pub(crate) const TXF_MORE_DATA: u16 = 1 << 2;
pub(crate) const TXF_EXTRA_INFO: u16 = 1 << 3;

const RXF_DATA_VALIDATED: u16 = 1;
const RXF_CSUM_BLANK: u16 = 1 << 1;
pub(crate) const RXF_MORE_DATA: u16 = 1 << 2;
pub(crate) const RXF_EXTRA_INFO: u16 = 1 << 3;

const EXTRA_FLAG_MORE: u8 = 1;
pub(crate) const EXTRA_GSO: u8 = 1;
pub(crate) const EXTRA_MCAST_ADD: u8 = 2;
pub(crate) const EXTRA_MCAST_DEL: u8 = 3;
/// The last type that is known, a hash; it is ignored.
pub(crate) const EXTRA_LAST: u8 = 4;

pub(crate) const RSP_DROPPED: i16 = -2;
pub(crate) const RSP_ERROR: i16 = -1;
pub(crate) const RSP_OKAY: i16 = 0;
/// The slot held an extra-info.
pub(crate) const RSP_NULL: i16 = 1;
