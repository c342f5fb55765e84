//! Random requests, honest and not, against a second reading of blkif.h.

use proptest::prelude::*;
use pvh_blkif::{Action, DiscardSupport, Disk, Next, Status};
use pvh_testkit::blkif::{discard, segment, transfer};

use crate::{LAYOUTS, guest::Guest};

const SECTORS: u64 = 64;

#[derive(Clone, Debug)]
struct Made {
    operation: u8,
    sector: u64,
    count: u64,
    segments: Vec<(u32, u8, u8)>,
}

fn made() -> impl Strategy<Value = Made> {
    let sector = prop_oneof![8 => 0..SECTORS + 2, 1 => any::<u64>()];
    let count = prop_oneof![8 => 0..SECTORS + 2, 1 => any::<u64>()];
    // 0x10 to 0x1F may be written, 0x20 to 0x2F only read, 0x30 is not granted.
    let segment = (0x10_u32..0x31, 0_u8..8, 0_u8..9);
    let segments = proptest::collection::vec(segment, 0..=11);
    (0_u8..7, sector, count, segments).prop_map(|(operation, sector, count, segments)| Made {
        operation: if operation == 6 { 9 } else { operation },
        sector,
        count,
        segments,
    })
}

/// Judges a request by blkif.h: the number of sectors and bytes that move, or the status of a
/// refusal.
fn judge(made: &Made) -> Result<(u64, u64), i16> {
    let ok = |sector: u64, count: u64| match sector.checked_add(count) {
        Some(end) if end <= SECTORS => Ok((sector, count * 512)),
        _ => Err(-1),
    };
    match made.operation {
        0 | 1 | 3 => {
            if made.segments.is_empty() {
                return if made.operation == 3 {
                    Ok((0, 0))
                } else {
                    Err(-1)
                };
            }
            let mut count = 0;
            for (reference, first, last) in &made.segments {
                let is_granted = match made.operation {
                    0 => *reference < 0x20,
                    _ => *reference < 0x30,
                };
                if first > last || *last > 7 || !is_granted {
                    return Err(-1);
                }
                count += u64::from(last - first + 1);
            }
            ok(made.sector, count)
        }
        5 if made.count == 0 => Err(-1),
        5 => ok(made.sector, made.count),
        _ => Err(-2),
    }
}

proptest! {
    #[test]
    fn every_request_is_judged_as_the_text_says(all in proptest::collection::vec(made(), 1..60), which in 0_usize..2) {
        let layout = LAYOUTS[which];
        let support = DiscardSupport { granularity_bytes: 512, alignment_bytes: 0, has_secure: false };
        let disk = Disk::new(SECTORS * 512).unwrap().with_discard(support);
        let mut guest = Guest::new(layout, disk);
        for (id, made) in (0..).zip(&all) {
            let segments: Vec<_> = made.segments.iter().map(|(r, f, l)| segment(*r, *f, *l)).collect();
            let bytes = match made.operation {
                5 => discard(layout, 0, (id, made.sector), made.count),
                operation => transfer(layout, operation, (id, made.sector), &segments),
            };
            guest.put(&bytes);
            match (guest.next(), judge(made)) {
                (Next::Refused(_), Err(status)) => prop_assert_eq!(guest.status(), (id, status)),
                (Next::Request(request), Ok((sector, len_bytes))) => {
                    let area = match &request.action {
                        Action::Read(io) | Action::Write(io) | Action::Flush(Some(io)) => {
                            let bytes: u64 = io.pieces.iter().map(|p| u64::from(p.len_bytes)).sum();
                            prop_assert_eq!(bytes, len_bytes);
                            for (piece, (reference, first, _)) in io.pieces.iter().zip(&made.segments) {
                                let at = u64::from(*reference) * 4096 + u64::from(*first) * 512;
                                prop_assert_eq!(piece.at.0, at);
                            }
                            Some(io.area)
                        }
                        Action::Discard { area, .. } => Some(*area),
                        Action::Flush(None) => None,
                    };
                    if let Some(area) = area {
                        prop_assert_eq!((area.offset, area.len_bytes), (sector * 512, len_bytes));
                    }
                    guest.queue.answer(&guest.memory, request, Status::Okay).unwrap();
                    prop_assert_eq!(guest.status(), (id, 0));
                }
                (next, want) => prop_assert!(false, "{:?}: {:?}, wanted {:?}", made, next, want),
            }
            prop_assert_eq!(guest.grants.in_use(), 0);
        }
    }
}
