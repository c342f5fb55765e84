//! Checksums of TCP and UDP, which a guest and a tap may leave to this end.

use std::ops::Range;

/// Where a packet has its TCP or UDP header, and what its checksum begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Where the header of TCP or UDP begins.
    pub(super) start: usize,
    /// Where the checksum is, from there.
    pub(super) field: usize,
    /// Where the header ends.
    pub(super) header_end: usize,
    /// Where the data ends; padding may follow.
    end: usize,
    /// The sum of the pseudo-header.
    pseudo: u16,
}

/// Finds the checksum of a packet; `None` if the packet is a fragment, is cut short, or is neither
/// TCP nor UDP over IPv4 or IPv6. The work is bounded by the length of the packet.
pub(super) fn find(packet: &[u8]) -> Option<Place> {
    let mut at: usize = 12;
    let mut kind = word(packet, at)?;
    for _ in 0..2 {
        if !matches!(kind, 0x8100 | 0x88A8) {
            break;
        }
        at = at.checked_add(4)?;
        kind = word(packet, at)?;
    }
    at = at.checked_add(2)?;
    match kind {
        0x0800 => ipv4(packet, at),
        0x86DD => ipv6(packet, at),
        _ => None,
    }
}

/// Computes the checksum of a packet; `None` if it has none, see [`find`].
pub(super) fn fill(packet: &mut [u8]) -> Option<()> {
    let place = find(packet)?;
    let at = place.start.checked_add(place.field)?;
    put(packet, at, 0)?;
    let data = packet.get(place.start..place.end)?;
    let sum = !fold(u64::from(place.pseudo).wrapping_add(sum(data)));
    // UDP has 0 for "no checksum".
    put(packet, at, if sum == 0 { 0xFFFF } else { sum })
}

/// Puts the sum of the pseudo-header into a packet, as whoever fills the checksum in wants it.
pub(super) fn blank(packet: &mut [u8]) -> Option<Place> {
    let place = find(packet)?;
    put(packet, place.start.checked_add(place.field)?, place.pseudo)?;
    Some(place)
}

fn ipv4(packet: &[u8], at: usize) -> Option<Place> {
    let header = packet.get(at..at.checked_add(20)?)?;
    let [first, ..] = *header else { return None };
    let header_bytes = usize::from(first & 0xF).checked_mul(4)?;
    let total_bytes = usize::from(word(header, 2)?);
    let is_fragment = word(header, 6)? & 0x3FFF != 0;
    if first >> 4 != 4 || header_bytes < 20 || is_fragment {
        return None;
    }
    let start = at.checked_add(header_bytes)?;
    let end = at.checked_add(total_bytes)?;
    let protocol = *header.get(9)?;
    place(packet, start..end, protocol, sum(header.get(12..20)?))
}

fn ipv6(packet: &[u8], at: usize) -> Option<Place> {
    let header = packet.get(at..at.checked_add(40)?)?;
    if header.first()? >> 4 != 6 {
        return None;
    }
    let mut start = at.checked_add(40)?;
    let end = start.checked_add(usize::from(word(header, 4)?))?;
    let mut protocol = *header.get(6)?;
    // Hop-by-hop options, routing, destination options.
    while matches!(protocol, 0 | 43 | 60) {
        let [next, units] = *packet.get(start..start.checked_add(2)?)? else {
            return None;
        };
        protocol = next;
        start = start.checked_add(usize::from(units).checked_add(1)?.checked_mul(8)?)?;
    }
    place(packet, start..end, protocol, sum(header.get(8..40)?))
}

/// The place in a TCP or UDP packet with this sum of its addresses.
fn place(packet: &[u8], part: Range<usize>, protocol: u8, addresses: u64) -> Option<Place> {
    let Range { start, end } = part;
    let data = packet.get(start..end)?;
    let (field, header_bytes) = match protocol {
        6 => (16, usize::from(*data.get(12)? >> 4).checked_mul(4)?.max(20)),
        17 => (6, 8),
        _ => return None,
    };
    if data.len() < header_bytes {
        return None;
    }
    let len_bytes = u64::try_from(data.len()).ok()?;
    let pseudo = addresses
        .wrapping_add(protocol.into())
        .wrapping_add(len_bytes);
    Some(Place {
        start,
        field,
        header_end: start.checked_add(header_bytes)?,
        end,
        pseudo: fold(pseudo),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let [high, low] = *bytes.get(at..at.checked_add(2)?)? else {
        return None;
    };
    Some(u16::from_be_bytes([high, low]))
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    bytes
        .get_mut(at..at.checked_add(2)?)?
        .copy_from_slice(&value.to_be_bytes());
    Some(())
}

/// The sum of 16-bit words. A packet has less than 64 KiB, so it stays far below 2^64.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let rest = rest.iter().map(|byte| u64::from(*byte) << 8);
    words.chain(rest).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF).wrapping_add(sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests;
