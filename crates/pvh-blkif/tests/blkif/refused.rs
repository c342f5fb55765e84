//! Requests that are refused, each with its reason and the guest's answer.

use pvh_abi::Gpa;
use pvh_blkif::{DiscardSupport, Disk, Next, Operation, Queue, Refusal};
use pvh_memory::GuestMemory;
use pvh_testkit::{
    blkif::{Layout, discard, indirect, segment, transfer},
    grants::NotGranted,
};

use crate::{
    LAYOUTS,
    guest::{Guest, RING, protocol},
};

const ERROR: i16 = -1;
const NOT_SUPPORTED: i16 = -2;

/// Puts the request to a disk of 16 sectors that has discards, and expects this end of it.
fn check(request: impl Fn(Layout) -> Vec<u8>, want: &Refusal<NotGranted>, status: i16) {
    let support = DiscardSupport {
        granularity_bytes: 512,
        alignment_bytes: 0,
        has_secure: false,
    };
    let disk = Disk::new(16 * 512).unwrap().with_discard(support);
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk);
        guest.put(&request(layout));
        assert_eq!(guest.refusal(), *want);
        assert_eq!(guest.status(), (0x55, status), "{want:?}");
        assert_eq!(guest.grants.in_use(), 0, "{want:?}");
        assert_eq!(guest.queue.unanswered(), 0);
        assert!(matches!(guest.next(), Next::Empty));
    }
}

#[test]
fn operations_that_are_not_offered() {
    for operation in [2, 4, 7, 255] {
        let request = |layout| transfer(layout, operation, (0x55, 0), &[segment(0x20, 0, 0)]);
        let operation = Operation(operation);
        check(request, &Refusal::Unsupported { operation }, NOT_SUPPORTED);
    }
}

#[test]
fn discards_and_indirect_requests_where_they_are_not_offered() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, Disk::new(16 * 512).unwrap());
        guest.queue = Queue::attach(&guest.memory, &[RING], protocol(layout), 0).unwrap();
        guest.put(&discard(layout, 0, (1, 0), 1));
        guest.put(&indirect(layout, 0, (2, 0), (1, &[0x20])));
        for operation in [Operation::DISCARD, Operation::INDIRECT] {
            assert_eq!(guest.refusal(), Refusal::Unsupported { operation });
        }
        assert_eq!((guest.status(), guest.status()), ((1, -2), (2, -2)));
    }
}

#[test]
fn segment_counts() {
    for operation in [0, 1] {
        let request = |layout| transfer(layout, operation, (0x55, 0), &[]);
        check(
            request,
            &Refusal::SegmentCount {
                count: 0,
                limit: 11,
            },
            ERROR,
        );
    }
    for (operation, count) in [(0, 12), (1, 12), (3, 255)] {
        let request = |layout| {
            let mut bytes = transfer(layout, operation, (0x55, 0), &[segment(0x20, 0, 0)]);
            bytes[1] = count;
            bytes
        };
        let count = count.into();
        check(request, &Refusal::SegmentCount { count, limit: 11 }, ERROR);
    }
    for count in [0, 257, 0xFFFF] {
        let request = |layout| indirect(layout, 0, (0x55, 0), (count, &[0x20; 8]));
        check(request, &Refusal::SegmentCount { count, limit: 256 }, ERROR);
    }
}

#[test]
fn segments_that_lie_outside_of_their_page() {
    for (first, last) in [(0, 8), (8, 8), (3, 2), (0, 255), (255, 0)] {
        let segments = [segment(0x10, 0, 0), segment(0x11, first, last)];
        let request = |layout| transfer(layout, 0, (0x55, 0), &segments);
        check(
            request,
            &Refusal::Segment {
                index: 1,
                first,
                last,
            },
            ERROR,
        );
    }
}

#[test]
fn sectors_outside_of_the_disk() {
    for (sector, last) in [
        (16, 0),
        (15, 1),
        (9, 7),
        (u64::MAX, 0),
        (u64::MAX - 7, 7),
        (1 << 55, 0),
    ] {
        let count = u64::from(last) + 1;
        let outside = Refusal::OutsideDisk {
            sector,
            count,
            disk: 16,
        };
        let segments = [segment(0x10, 0, last)];
        check(
            |layout| transfer(layout, 0, (0x55, sector), &segments),
            &outside,
            ERROR,
        );
        check(
            |layout| discard(layout, 0, (0x55, sector), count),
            &outside,
            ERROR,
        );
    }
    let huge = Refusal::OutsideDisk {
        sector: 1,
        count: u64::MAX,
        disk: 16,
    };
    check(
        |layout| discard(layout, 0, (0x55, 1), u64::MAX),
        &huge,
        ERROR,
    );
    check(
        |layout| discard(layout, 0, (0x55, 1), 0),
        &Refusal::EmptyDiscard,
        ERROR,
    );
}

#[test]
fn pages_that_are_not_granted_or_not_for_writing() {
    let refused = |index, reference| Refusal::Grant {
        index,
        reference,
        source: NotGranted,
    };
    let segments = [segment(0x10, 0, 0), segment(0x20, 0, 0)];
    check(
        |layout| transfer(layout, 0, (0x55, 0), &segments),
        &refused(1, 0x20),
        ERROR,
    );
    let segments = [segment(0x20, 0, 0), segment(0x99, 0, 0)];
    check(
        |layout| transfer(layout, 1, (0x55, 0), &segments),
        &refused(1, 0x99),
        ERROR,
    );
    check(
        |layout| indirect(layout, 0, (0x55, 0), (1, &[0x99])),
        &refused(0, 0x99),
        ERROR,
    );
}

#[test]
fn an_indirect_request_of_another_kind() {
    for operation in [2, 3, 5, 6, 255] {
        let request = |layout| indirect(layout, operation, (0x55, 0), (1, &[0x20]));
        let operation = Operation(operation);
        check(request, &Refusal::Indirect { operation }, ERROR);
    }
}

#[test]
fn a_page_of_segments_that_is_no_memory() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, Disk::new(16 * 512).unwrap());
        guest.grants.grant(0x40, Gpa(0x4_0000), true);
        guest.put(&indirect(layout, 0, (3, 0), (1, &[0x40])));
        let refusal = guest.refusal();
        assert!(
            matches!(refusal, Refusal::IndirectPage { index: 0, .. }),
            "{refusal:?}"
        );
        assert_eq!(guest.status(), (3, -1));
        assert_eq!(guest.grants.in_use(), 0);
    }
}

#[test]
fn writes_and_discards_of_a_read_only_disk() {
    let support = DiscardSupport {
        granularity_bytes: 512,
        alignment_bytes: 0,
        has_secure: false,
    };
    let disk = Disk::new(16 * 512)
        .unwrap()
        .with_discard(support)
        .read_only();
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk);
        let segments = [segment(0x20, 0, 0)];
        guest.memory.write(Gpa(0x2_1000), &segments[0]).unwrap();
        guest.put(&transfer(layout, 1, (1, 0), &segments));
        guest.put(&transfer(layout, 3, (2, 0), &segments));
        guest.put(&indirect(layout, 1, (3, 0), (1, &[0x21])));
        guest.put(&discard(layout, 0, (4, 0), 1));
        for id in 1..5 {
            assert_eq!(guest.refusal(), Refusal::ReadOnly);
            assert_eq!(guest.status(), (id, ERROR));
        }
        guest.put(&transfer(layout, 3, (5, 0), &[]));
        drop(guest.request());
    }
}
