//! Packets for the guest: where their bytes go, and what the guest is told of them.

use pvh_netif::{Checksum, DeliverError, Frame, Gso, GsoKind, Offloads};
use pvh_ring::Access;

use super::{RAM, World, receive_ring};
use crate::{
    back_end::{Record, size},
    tape::Tape,
};

/// A packet before it is delivered.
struct Made {
    bytes: Vec<u8>,
    checksum: Checksum,
    gso: Option<(u8, u16)>,
}

impl World {
    pub(super) fn deliver(&mut self, tape: &mut Tape<'_>) {
        let made = made(tape);
        let kind = |kind| {
            if kind == 1 {
                GsoKind::TcpV4
            } else {
                GsoKind::TcpV6
            }
        };
        let frame = Frame {
            bytes: &made.bytes,
            checksum: made.checksum,
            gso: made.gso.map(|(number, segment_bytes)| Gso {
                kind: kind(number),
                segment_bytes,
            }),
        };
        let is = self.rx.back.deliver(&self.memory, &self.grants, frame);
        let mut record = Record::new(self.memory.take_seen());
        let taken = self.grants.taken();
        assert_eq!(self.grants.in_use(), self.in_use(), "pages of a delivery");
        let most = if self.offloads.has_scatter_gather {
            65535
        } else {
            4096
        };
        let mut asked = Vec::new();
        if made.bytes.is_empty() || made.bytes.len() > most {
            assert!(matches!(is, Err(DeliverError::Length { .. })), "{is:?}");
        } else if !is_taken(&made, self.offloads) {
            assert!(matches!(is, Err(DeliverError::Offload)), "{is:?}");
        } else {
            let slots = made.bytes.len().div_ceil(4096) + usize::from(made.gso.is_some());
            let needed = u32::try_from(slots).expect("there are at most 17");
            match self.rx.ring.wait(&mut record, needed) {
                Ok(true) => asked = self.delivered(&made, slots, &is, &mut record),
                Ok(false) => {
                    let is_no_room =
                        matches!(is, Err(DeliverError::NoRoom { needed: is }) if is == needed);
                    assert!(is_no_room, "{is:?}");
                }
                Err(wanted) => {
                    assert!(
                        matches!(is, Err(DeliverError::Ring(is)) if is == wanted),
                        "{is:?}"
                    );
                    record.finish();
                    self.rx = receive_ring(&self.memory, self.start, self.offloads);
                    return;
                }
            }
        }
        assert_eq!(taken, asked, "the pages that were taken");
        record.finish();
    }

    /// There was room: the requests, the data and the responses. Returns the pages that are to be
    /// taken.
    fn delivered<E: std::error::Error + 'static>(
        &mut self,
        made: &Made,
        slots: usize,
        is: &Result<(), DeliverError<E>>,
        record: &mut Record,
    ) -> Vec<(u32, Access)> {
        let requests: Vec<(u16, u32)> = (0..slots)
            .map(|_| {
                let raw = self.rx.ring.take_counted(record);
                let reference = u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]);
                (u16::from_le_bytes([raw[0], raw[1]]), reference)
            })
            .collect();
        // The second slot of a large packet is its extra-info's.
        let is_data = |index: usize| made.gso.is_none() || index != 1;
        let mut asked = Vec::new();
        let mut pages = Vec::new();
        for (index, (_, reference)) in requests.iter().enumerate().filter(|(at, _)| is_data(*at)) {
            asked.push((*reference, Access::Write));
            match self.grants.entry(*reference) {
                Some((page, true)) => pages.push(page.0),
                _ => {
                    let is_grant =
                        matches!(is, Err(DeliverError::Grant { index: is, .. }) if *is == index);
                    assert!(is_grant, "{is:?}");
                    break;
                }
            }
        }
        let parts: Vec<&[u8]> = made.bytes.chunks(4096).collect();
        let mut is_done = pages.len() == parts.len();
        if is_done {
            for (page, part) in pages.iter().zip(&parts) {
                if *page >= RAM {
                    assert!(matches!(is, Err(DeliverError::Memory(_))), "{is:?}");
                    is_done = false;
                    break;
                }
                let (bytes, _) = record.write(*page, part.len());
                assert!(bytes == *part, "other bytes were delivered");
            }
        }
        assert_eq!(is.is_ok(), is_done, "{is:?}");
        self.responses(made, &requests, is_done, record);
        asked
    }

    fn responses(
        &mut self,
        made: &Made,
        requests: &[(u16, u32)],
        is_done: bool,
        record: &mut Record,
    ) {
        let mut left = made.bytes.len();
        for (index, (id, _)) in requests.iter().enumerate() {
            if let (1, Some((kind, segment_bytes))) = (index, made.gso) {
                let [low, high] = segment_bytes.to_le_bytes();
                self.rx.ring.put(record, &[1, 0, low, high, kind, 0, 0, 0]);
                continue;
            }
            let part = left.min(4096);
            left -= part;
            let mut flags = if left > 0 { 4_u8 } else { 0 };
            if index == 0 {
                flags |= match made.checksum {
                    Checksum::Complete => 0,
                    Checksum::Validated => 1,
                    Checksum::Blank => 3,
                };
                flags |= if made.gso.is_some() { 8 } else { 0 };
            }
            let status = if is_done {
                i16::try_from(part).unwrap_or(0)
            } else {
                -1
            };
            let [id_low, id_high] = id.to_le_bytes();
            let [low, high] = status.to_le_bytes();
            let response = [id_low, id_high, 0, 0, flags, 0, low, high];
            self.rx.ring.put(record, &response);
        }
    }
}

/// A packet: its length, its type, perhaps behind tags, and its offloads.
fn made(tape: &mut Tape<'_>) -> Made {
    let (how, len) = (tape.byte(), tape.half());
    let len = match how >> 6 {
        0 | 1 => usize::from(len & 0xFF),
        2 => usize::from(len & 0x3FFF),
        _ => size(u64::from(len) + u64::from(len & 1)),
    };
    let mut bytes: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0] ^ how).collect();
    let tags = usize::from(how & 3);
    let ether_type = match how >> 2 & 3 {
        0 => [8, 6],
        1 => [0x86, 0xDD],
        _ => [8, 0],
    };
    for tag in 0..=tags {
        let kind = match tag {
            _ if tag == tags => ether_type,
            0 => [0x88, 0xA8],
            _ => [0x81, 0],
        };
        let at = 12 + 4 * tag;
        if let Some(field) = bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&kind);
        }
    }
    let offload = tape.byte();
    let checksum = match offload & 3 {
        0 => Checksum::Complete,
        1 => Checksum::Validated,
        _ => Checksum::Blank,
    };
    let gso = (offload & 4 != 0).then(|| (1 + (offload >> 3 & 1), tape.half()));
    Made {
        bytes,
        checksum,
        gso,
    }
}

/// Whether the guest takes a packet with these offloads.
fn is_taken(made: &Made, offloads: Offloads) -> bool {
    let mut at = 12;
    // At most two tags are looked behind; a type needs something behind it.
    while at < 20
        && matches!(
            made.bytes.get(at..at + 4),
            Some([0x81, 0, ..] | [0x88, 0xA8, ..])
        )
    {
        at += 4;
    }
    let fills = match made.bytes.get(at..at + 4) {
        Some([8, 0, ..]) => offloads.fills_checksums.ipv4,
        Some([0x86, 0xDD, ..]) => offloads.fills_checksums.ipv6,
        _ => false,
    };
    let cuts = match made.gso {
        Some((1, _)) => offloads.has_tcp_v4,
        Some(_) => offloads.has_tcp_v6,
        None => true,
    };
    let is_blank = made.checksum == Checksum::Blank;
    cuts && (is_blank || made.gso.is_none()) && (fills || !is_blank)
}
