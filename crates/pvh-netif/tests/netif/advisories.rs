//! What Xen's advisories say of back ends, one test each.

use pvh_netif::{Next, Status, TransmitError};
use pvh_ring::RingError;
use pvh_testkit::netif::transmit as request;

use crate::guest::{ALL, Guest};

/// XSA-39: indices that jump end the queue, they do not make it loop.
#[test]
fn xsa_39_a_ring_that_claims_more_than_it_holds_is_an_error() {
    for req_prod in [257, 0x8000_0000, u32::MAX] {
        let mut guest = Guest::new(ALL);
        guest.tx.claim(&guest.memory, req_prod);
        let next = guest.transmit.next(&guest.memory, &guest.grants);
        let is_overflow = matches!(next, Err(TransmitError::Ring(RingError::Overflow { .. })));
        assert!(is_overflow, "{next:?}");
    }
}

/// XSA-155: requests are read once; what was checked is what is used.
#[test]
fn xsa_155_a_packet_that_changes_after_it_was_taken_changes_nothing() {
    let mut guest = Guest::new(ALL);
    guest.send(&[request(0x10, 0, 0, (1, 60))]);
    let packet = guest.packet();
    guest.send(&[]);
    let at = pvh_abi::Gpa(0x1040);
    pvh_memory::GuestMemory::write(&guest.memory, at, &[0xFF; 12]).unwrap();
    assert_eq!((packet.len_bytes, packet.pieces[0].at.0), (60, 0x1_0000));
    guest
        .transmit
        .answer(&guest.memory, packet, Status::Okay)
        .unwrap();
    assert_eq!(guest.sent(), [(1, 0)]);
}

/// XSA-424: a front end cannot stall its back end: each call takes one packet of a bounded size.
#[test]
fn xsa_424_a_front_end_that_never_stops_is_served_one_packet_a_call() {
    let mut guest = Guest::new(ALL);
    for _ in 0..1000 {
        guest.send(&[request(0x99, 0, 0, (1, 60))]);
        assert!(matches!(guest.next(), Next::Refused(_)));
        assert_eq!(guest.sent(), [(1, -1)]);
    }
}
