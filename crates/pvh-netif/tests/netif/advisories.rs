//! What Xen's advisories teach about network back ends, one test each.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_netif::{
    Checksum, DeliverError, Frame, Next, Receive, Refusal, Status, Transmit, TransmitError,
};
use pvh_ring::RingError;
use pvh_testkit::{
    grants::GrantTable,
    netif::{receive, transmit as request},
    racing::RacingMemory,
    ring::FrontRing,
};

use crate::guest::{ALL, Guest};

const RING: Gpa = Gpa(0x1000);

const fn plain(bytes: &[u8]) -> Frame<'_> {
    Frame {
        bytes,
        checksum: Checksum::Complete,
        gso: None,
    }
}

/// XSA-39: a back end must not work through requests that an impossible index claims.
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

/// XSA-155: a request that the front end changes meanwhile is copied once, and checked in the copy.
#[test]
fn xsa_155_a_packet_that_changes_is_judged_by_what_was_read() {
    for after in 0..6 {
        let grants = GrantTable::of_frames(0x10..0x20, 0..0);
        let memory = RacingMemory::new(0x2000, &grants);
        let mut front = FrontRing::new(memory.ram(), &[RING], 12);
        let mut transmit = Transmit::attach(&memory, RING).unwrap();
        front.put(memory.ram(), &request(0x10, 0, 0, (1, 60)));
        front.publish(memory.ram());
        memory.take_seen();
        memory.change_after(after, Gpa(RING.0 + 64), &request(0x11, 4000, 0, (2, 90)));
        let Next::Packet(packet) = transmit.next(&memory, &grants).unwrap() else {
            panic!("both requests are right")
        };
        // Two accesses: the index, then the slot.
        let (at, len_bytes, id) = match after {
            0 | 1 => (0x1_1FA0, 90, 2),
            _ => (0x1_0000, 60, 1),
        };
        assert_eq!((packet.pieces[0].at.0, packet.len_bytes), (at, len_bytes));
        memory.take_seen(); // a change that is not made yet is never made
        transmit.answer(&memory, packet, Status::Okay).unwrap();
        transmit.publish(&memory).unwrap();
        assert_eq!(front.take(memory.ram(), 2), Some((0, vec![id, 0])));
    }
}

/// XSA-155 in another shape: an index that moves back between two looks takes no request back.
#[test]
fn xsa_155_an_index_that_moves_back_while_a_packet_is_delivered_changes_nothing() {
    let grants = GrantTable::of_frames(0..0, 0..0x10);
    for after in 1..6 {
        let memory = RacingMemory::new(0x1_0000, &grants);
        let mut front = FrontRing::new(memory.ram(), &[RING], 8);
        let mut back = Receive::attach(&memory, RING, ALL).unwrap();
        for frame in [8, 9] {
            front.put(memory.ram(), &receive(frame, frame.into()));
        }
        front.publish(memory.ram());
        memory.take_seen();
        memory.change_after(after, RING, &1_u32.to_le_bytes());
        let bytes = vec![0xA5; 5000];
        back.deliver(&memory, &grants, plain(&bytes)).unwrap();
        back.publish(&memory).unwrap();
        let statuses = [(); 2].map(|()| front.take(memory.ram(), 8).unwrap().1);
        assert_eq!(statuses[0], [8, 0, 0, 0, 4, 0, 0, 0x10]);
        assert_eq!(statuses[1], [9, 0, 0, 0, 0, 0, 0x88, 3]);
        let mut byte = [0];
        memory.ram().read(Gpa(0), &mut byte).unwrap();
        assert_eq!(byte, [0], "the page of reference 0 is not touched");
    }
}

/// XSA-216: a response must carry nothing but itself; what is not written stays the guest's.
#[test]
fn xsa_216_a_response_holds_nothing_but_its_fields() {
    let mut guest = Guest::new(ALL);
    guest.send(&[request(0x10, 0, 0, (0x0101, 60))]);
    let packet = guest.packet();
    guest
        .transmit
        .answer(&guest.memory, packet, Status::Okay)
        .unwrap();
    // The reference of the request is gone, its other fields are as the guest wrote them.
    let slot = guest.bytes::<12>(0x1040);
    assert_eq!(slot, [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 60, 0]);
    guest.offer([0x30]);
    guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&[1; 60]))
        .unwrap();
    assert_eq!(guest.bytes::<8>(0x2040), [0x30, 0, 0, 0, 0, 0, 60, 0]);
}

/// XSA-362: a grant that cannot be used is an error of the packet, and no bug of the host; the pages
/// that were taken before are given back.
#[test]
fn xsa_362_pages_taken_before_one_that_fails_are_given_back() {
    let mut guest = Guest::new(ALL);
    let more = 4;
    guest.send(&[
        request(0x10, 0, more, (1, 200)),
        request(0x11, 0, more, (2, 50)),
        request(0x99, 0, 0, (3, 50)),
    ]);
    let refusal = guest.refusal();
    assert!(
        matches!(refusal, Refusal::Grant { index: 2, .. }),
        "{refusal:?}"
    );
    assert_eq!(guest.grants.in_use(), 0);
    assert_eq!(guest.sent(), [(1, -1), (2, -1), (3, -1)]);
}

/// XSA-391: a back end that notifies without need keeps a guest busy with interrupts.
#[test]
fn xsa_391_a_burst_of_answers_is_one_notification() {
    let mut guest = Guest::new(ALL);
    for id in 0..100 {
        guest.send(&[request(0x10, 0, 0, (id, 60))]);
    }
    guest.tx.wait_for(&guest.memory, 100);
    let mut notified = 0;
    for _ in 0..100 {
        let packet = guest.packet();
        guest
            .transmit
            .answer(&guest.memory, packet, Status::Okay)
            .unwrap();
        notified += u32::from(guest.transmit.publish(&guest.memory).unwrap());
    }
    assert_eq!(notified, 1);
}

/// XSA-424: no front end may stall its back end: each call takes one packet of a bounded size.
#[test]
fn xsa_424_a_front_end_that_never_stops_is_served_one_packet_a_call() {
    let mut guest = Guest::new(ALL);
    for _ in 0..1000 {
        guest.send(&[request(0x99, 0, 0, (1, 60))]);
        assert!(matches!(guest.next(), Next::Refused(_)));
        assert_eq!(guest.sent(), [(1, -1)]);
    }
}

/// XSA-424: a packet for a guest that offers no pages is given back at once, and nothing is kept.
#[test]
fn xsa_424_a_guest_that_takes_nothing_holds_nothing_up() {
    let mut guest = Guest::new(ALL);
    for _ in 0..1000 {
        let delivered = guest
            .receive
            .deliver(&guest.memory, &guest.grants, plain(&[1; 60]));
        let is_no_room = matches!(delivered, Err(DeliverError::NoRoom { needed: 1 }));
        assert!(is_no_room, "{delivered:?}");
    }
    assert_eq!(guest.grants.in_use(), 0);
}
