//! A second reading of netif.h: what the next packet of a guest is, by the bytes that were read.

use pvh_netif::TransmitError;
use pvh_ring::Access;
use pvh_testkit::grants::GrantTable;

use super::{Record, Ring, ring_error};
use crate::bytes::field;

/// A packet that is to be sent on, or refused.
#[derive(Debug)]
pub(super) enum Kind {
    Packet(Wanted),
    Refused(Wanted),
}

/// What a packet is to be.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The id of each slot, none for extra-infos.
    pub(super) slots: Vec<Option<u16>>,
    pub(super) size: u16,
    pub(super) flags: u16,
    /// Type, and size of the parts.
    pub(super) gso: Option<(u8, u16)>,
    /// Address and length of each.
    pub(super) pieces: Vec<(u64, u16)>,
    pub(super) fault: Option<Fault>,
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Multicast,
    Slots(usize),
    Short,
    Part(usize),
    Grant,
}

/// A request as it was read.
#[derive(Clone, Copy)]
struct Request {
    reference: u32,
    offset: u16,
    flags: u16,
    id: u16,
    size: u16,
}

/// The references that are to be taken, in this order.
type Asked = Vec<(u32, Access)>;

/// Reads the next packet from the record and judges it; `None` if none waits.
pub(super) fn judge(
    ring: &mut Ring,
    record: &mut Record,
    grants: &GrantTable,
) -> (Result<Option<Kind>, TransmitError>, Asked) {
    let mut asked = Asked::new();
    let mut read = || -> Result<Option<(Vec<Request>, Wanted)>, TransmitError> {
        let Some(first) = request(ring, record)? else {
            return Ok(None);
        };
        let mut wanted = Wanted {
            slots: vec![Some(first.id)],
            size: first.size,
            flags: first.flags,
            ..Wanted::default()
        };
        if first.flags & 8 != 0 {
            extras(ring, record, &mut wanted)?;
        }
        let mut requests = vec![first];
        while requests.last().is_some_and(|last| last.flags & 4 != 0) {
            let slots = requests.len();
            if slots == 20 {
                return Err(TransmitError::Endless);
            }
            let next = request(ring, record)?;
            let next = next.ok_or(TransmitError::Truncated { slots })?;
            in_page(next.offset, next.size)?;
            wanted.slots.push(Some(next.id));
            requests.push(next);
        }
        Ok(Some((requests, wanted)))
    };
    let (requests, mut wanted) = match read() {
        Ok(Some(packet)) => packet,
        Ok(None) => return (Ok(None), asked),
        Err(error) => return (Err(error), asked),
    };
    let sizes = match sizes(&requests, &wanted) {
        Ok(sizes) => sizes,
        Err(fault) => {
            wanted.fault = Some(fault);
            return (Ok(Some(Kind::Refused(wanted))), asked);
        }
    };
    if let Err(error) = in_page(requests[0].offset, sizes[0]) {
        return (Err(error), asked);
    }
    for (request, size) in requests.iter().zip(sizes) {
        asked.push((request.reference, Access::Read));
        let Some((page, _)) = grants.entry(request.reference) else {
            wanted.fault = Some(Fault::Grant);
            return (Ok(Some(Kind::Refused(wanted))), asked);
        };
        wanted
            .pieces
            .push((page.0 + u64::from(request.offset), size));
    }
    (Ok(Some(Kind::Packet(wanted))), asked)
}

fn request(ring: &mut Ring, record: &mut Record) -> Result<Option<Request>, TransmitError> {
    let bytes = ring.take(record).map_err(ring_error)?;
    Ok(bytes.map(|bytes| Request {
        reference: u32::try_from(number(&bytes, 0, 4)).unwrap_or(0),
        offset: half(&bytes, 4),
        flags: half(&bytes, 6),
        id: half(&bytes, 8),
        size: half(&bytes, 10),
    }))
}

/// Reads extra-infos up to the one without the flag.
fn extras(ring: &mut Ring, record: &mut Record, wanted: &mut Wanted) -> Result<(), TransmitError> {
    for count in 1.. {
        let bytes = ring.take(record).map_err(ring_error)?;
        let bytes = bytes.ok_or(TransmitError::Truncated { slots: 1 })?;
        wanted.slots.push(None);
        match bytes[0] {
            1 => {
                let (segment_bytes, kind) = (half(&bytes, 2), bytes[4]);
                if segment_bytes == 0 || !(1..=2).contains(&kind) {
                    return Err(TransmitError::Gso {
                        kind,
                        segment_bytes,
                    });
                }
                wanted.gso = Some((kind, segment_bytes));
            }
            2 | 3 => wanted.fault = Some(Fault::Multicast),
            4 => {}
            kind => return Err(TransmitError::ExtraType { kind }),
        }
        if bytes[1] & 1 == 0 {
            break;
        }
        if count == 20 {
            return Err(TransmitError::Endless);
        }
    }
    Ok(())
}

/// How long each part is. The first request has the size of the whole packet.
fn sizes(requests: &[Request], wanted: &Wanted) -> Result<Vec<u16>, Fault> {
    if let Some(fault) = wanted.fault {
        return Err(fault);
    }
    if requests.len() > 18 {
        return Err(Fault::Slots(requests.len()));
    }
    if wanted.size < 14 {
        return Err(Fault::Short);
    }
    let mut sizes: Vec<u16> = requests.iter().map(|request| request.size).collect();
    for index in 1..sizes.len() {
        let left = sizes[0].checked_sub(sizes[index]);
        sizes[0] = left.ok_or(Fault::Part(index))?;
    }
    Ok(sizes)
}

const fn in_page(offset: u16, size: u16) -> Result<(), TransmitError> {
    if offset as u32 + size as u32 > 4096 {
        return Err(TransmitError::CrossesPage { offset, size });
    }
    Ok(())
}

fn half(bytes: &[u8], at: u64) -> u16 {
    u16::try_from(number(bytes, at, 2)).unwrap_or(0)
}

fn number(bytes: &[u8], at: u64, len: usize) -> u64 {
    field(bytes, at, len).unwrap_or(0)
}
