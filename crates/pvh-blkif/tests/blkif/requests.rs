//! Requests that an honest front end makes.

use pvh_abi::Gpa;
use pvh_blkif::{Action, Area, DiscardSupport, Disk, Status};
use pvh_memory::GuestMemory;
use pvh_testkit::blkif::{Layout, discard, indirect, segment, transfer};

use crate::{LAYOUTS, guest::Guest};

fn disk() -> Disk {
    Disk::new(1 << 20).unwrap()
}

#[test]
fn a_read_has_its_area_and_its_pieces_in_order() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        let segments = [
            segment(0x12, 0, 7),
            segment(0x11, 2, 2),
            segment(0x13, 4, 7),
        ];
        guest.put(&transfer(layout, 0, (0x1122_3344_5566_7788, 3), &segments));
        let request = guest.request();
        let Action::Read(io) = &request.action else {
            panic!("{request:?}")
        };
        let area = Area {
            offset: 3 * 512,
            len_bytes: 13 * 512,
        };
        assert_eq!(io.area, area);
        let pieces = io.pieces.iter().map(|piece| (piece.at, piece.len_bytes));
        let want = [
            (Gpa(0x1_2000), 4096),
            (Gpa(0x1_1400), 512),
            (Gpa(0x1_3800), 2048),
        ];
        assert_eq!(pieces.collect::<Vec<_>>(), want);
        assert_eq!(guest.grants.in_use(), 3);
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        assert_eq!(guest.grants.in_use(), 0);
        assert_eq!(guest.status(), (0x1122_3344_5566_7788, 0));
    }
}

#[test]
fn a_write_takes_pages_that_are_granted_for_reading() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        guest.put(&transfer(layout, 1, (7, 2047), &[segment(0x20, 7, 7)]));
        let request = guest.request();
        assert!(matches!(request.action, Action::Write(_)), "{request:?}");
        guest
            .queue
            .answer(&guest.memory, request, Status::Error)
            .unwrap();
        assert_eq!(guest.status(), (7, -1));
    }
}

#[test]
fn a_flush_needs_no_segments_and_may_have_some() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        // Without data the sector means nothing: Linux sends the disk's end, or -1.
        guest.put(&transfer(layout, 3, (1, u64::MAX), &[]));
        let request = guest.request();
        assert!(matches!(request.action, Action::Flush(None)), "{request:?}");
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        guest.put(&transfer(layout, 3, (2, 0), &[segment(0x20, 0, 0)]));
        let request = guest.request();
        assert!(
            matches!(request.action, Action::Flush(Some(_))),
            "{request:?}"
        );
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        assert_eq!((guest.status(), guest.status()), ((1, 0), (2, 0)));
    }
}

#[test]
fn an_indirect_request_has_its_segments_in_pages() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        let segments: Vec<_> = (0..256_u32).map(|n| segment(0x10 + n % 16, 0, 0)).collect();
        guest
            .memory
            .write(Gpa(0x2_0000), segments.as_flattened())
            .unwrap();
        guest.put(&indirect(layout, 0, (9, 8), (256, &[0x20])));
        let request = guest.request();
        let Action::Read(io) = &request.action else {
            panic!("{request:?}")
        };
        assert_eq!(
            io.area,
            Area {
                offset: 4096,
                len_bytes: 256 * 512
            }
        );
        assert_eq!(io.pieces.len(), 256);
        assert_eq!(io.pieces[17].at, Gpa(0x1_1000));
        // The page of segments is in use no longer than it is read.
        assert_eq!(guest.grants.in_use(), 256);
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        assert_eq!(guest.response()[8], 0, "BLKIF_OP_READ, as Linux wants it");
        assert_eq!(guest.grants.in_use(), 0);
    }
}

#[test]
fn a_discard_has_its_area_and_is_secure_only_where_that_is_offered() {
    for (layout, has_secure) in LAYOUTS.into_iter().zip([true, false]) {
        let support = DiscardSupport {
            granularity_bytes: 4096,
            alignment_bytes: 0,
            has_secure,
        };
        let mut guest = Guest::new(layout, disk().with_discard(support));
        guest.put(&discard(layout, 1, (4, 1024), 1024));
        let request = guest.request();
        let Action::Discard { area, is_secure } = request.action else {
            panic!("{request:?}")
        };
        assert_eq!(
            area,
            Area {
                offset: 1 << 19,
                len_bytes: 1 << 19
            }
        );
        assert_eq!(is_secure, has_secure);
        guest
            .queue
            .answer(&guest.memory, request, Status::NotSupported)
            .unwrap();
        assert_eq!(guest.status(), (4, -2));
    }
}

#[test]
fn answers_come_in_any_order() {
    let mut guest = Guest::new(Layout::X86_64, disk());
    for id in 0..3 {
        guest.put(&transfer(
            Layout::X86_64,
            0,
            (id, 0),
            &[segment(0x10, 0, 0)],
        ));
    }
    let (first, second, third) = (guest.request(), guest.request(), guest.request());
    assert_eq!(guest.queue.unanswered(), 3);
    for request in [third, first, second] {
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
    }
    let ids = [guest.status().0, guest.status().0, guest.status().0];
    assert_eq!(ids, [2, 0, 1]);
}
