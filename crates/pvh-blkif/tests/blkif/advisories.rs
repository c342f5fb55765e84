//! What Xen's advisories say of back ends, one test each.

use pvh_abi::Gpa;
use pvh_blkif::{Action, Disk, Next, Status};
use pvh_memory::GuestMemory;
use pvh_ring::RingError;
use pvh_testkit::blkif::{Layout, indirect, segment, transfer};

use crate::{
    LAYOUTS,
    guest::{Guest, RING},
};

fn disk() -> Disk {
    Disk::new(1 << 20).unwrap()
}

/// XSA-39: a front end whose indices jump makes the back end stop, not loop.
#[test]
fn xsa_39_a_ring_that_claims_more_than_it_holds_is_an_error() {
    let mut guest = Guest::new(Layout::X86_64, disk());
    guest
        .memory
        .write(RING, &0x8000_0000_u32.to_le_bytes())
        .unwrap();
    let next = guest.queue.next(&guest.memory, &guest.grants, &guest.disk);
    assert!(matches!(next, Err(RingError::Overflow { .. })), "{next:?}");
}

/// XSA-155: a request and its indirect segments are read once; what was checked is what is used.
#[test]
fn xsa_155_a_request_that_changes_after_it_was_taken_changes_nothing() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        guest
            .memory
            .write(Gpa(0x2_0000), &segment(0x10, 1, 2))
            .unwrap();
        guest.put(&indirect(layout, 0, (1, 4), (1, &[0x20])));
        let request = guest.request();
        guest.memory.write(Gpa(RING.0 + 64), &[0xFF; 108]).unwrap();
        guest.memory.write(Gpa(0x2_0000), &[0xFF; 8]).unwrap();
        let Action::Read(io) = &request.action else {
            panic!("{request:?}")
        };
        assert_eq!((io.area.offset, io.area.len_bytes), (4 * 512, 2 * 512));
        assert_eq!(
            (io.pieces[0].at, io.pieces[0].len_bytes),
            (Gpa(0x1_0200), 1024)
        );
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        assert_eq!(guest.status(), (1, 0));
    }
}

/// XSA-216: a response carries no byte that the host did not mean to give, padding included.
#[test]
fn xsa_216_the_padding_of_a_response_is_cleared() {
    for layout in LAYOUTS {
        let mut guest = Guest::new(layout, disk());
        let mut bytes = transfer(layout, 0, (u64::MAX, 0), &[segment(0x10, 0, 0)]);
        bytes.resize(108, 0xEE);
        guest.put(&bytes);
        let request = guest.request();
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        let mut want = vec![0xFF; 8];
        want.extend([0, 0, 0, 0]); // operation, padding, status
        if layout == Layout::X86_64 {
            want.extend([0; 4]);
        }
        assert_eq!(guest.response(), want);
    }
}

/// XSA-362: when one page of several cannot be had, those that were taken are given back and no
/// data moves.
#[test]
fn xsa_362_pages_taken_before_one_that_fails_are_given_back() {
    let mut guest = Guest::new(Layout::X86_64, disk());
    let mut segments = vec![segment(0x10, 0, 7); 10];
    segments.push(segment(0x99, 0, 7));
    guest.put(&transfer(Layout::X86_64, 0, (1, 0), &segments));
    assert!(matches!(guest.next(), Next::Refused(_)));
    assert_eq!(guest.grants.in_use(), 0);
}

/// XSA-424: a front end cannot stall its back end: each call serves one request, and the caller
/// decides how many calls it makes.
#[test]
fn xsa_424_a_front_end_that_never_stops_is_served_one_request_a_call() {
    let mut guest = Guest::new(Layout::X86_64, disk());
    for _ in 0..1000 {
        guest.put(&transfer(Layout::X86_64, 255, (1, 0), &[]));
        assert!(matches!(guest.next(), Next::Refused(_)));
        guest.status();
    }
    assert_eq!(guest.queue.unanswered(), 0);
}
