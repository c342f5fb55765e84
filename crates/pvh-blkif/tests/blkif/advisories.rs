//! What Xen's advisories say of back ends, one test each.

use pvh_abi::Gpa;
use pvh_blkif::{Action, Disk, Next, Queue, Status};
use pvh_memory::GuestMemory;
use pvh_ring::RingError;
use pvh_testkit::{
    blkif::{Layout, indirect, segment, transfer},
    grants::GrantTable,
    racing::{RacingMemory, Seen},
    ring::FrontRing,
};

use crate::{
    LAYOUTS,
    guest::{Guest, RING, protocol},
};

fn disk() -> Disk {
    Disk::new(1 << 20).unwrap()
}

/// XSA-39: a back end must not work through requests that an impossible index claims.
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

/// XSA-155: a request and its segments that the front end changes meanwhile are copied once, and
/// checked in the copy.
#[test]
fn xsa_155_a_request_that_changes_is_judged_by_what_was_read() {
    for (layout, after) in LAYOUTS
        .into_iter()
        .flat_map(|layout| (0..8).map(move |n| (layout, n)))
    {
        let grants = GrantTable::of_frames(0x20..0x30, 0x10..0x20);
        let memory = RacingMemory::new(0x3_0000, &grants);
        let mut front = FrontRing::new(memory.ram(), &[RING], layout.slot_bytes());
        let mut queue = Queue::attach(&memory, &[RING], protocol(layout), 256).unwrap();
        let at = Gpa(0x2_0000);
        memory.ram().write(at, &segment(0x10, 1, 2)).unwrap();
        front.put(memory.ram(), &indirect(layout, 0, (1, 4), (1, &[0x20])));
        front.publish(memory.ram());
        memory.take_seen();
        memory.change_after(after, Gpa(RING.0 + 64), &[0xFF; 108]);
        memory.change_after(after, at, &[0xFF; 8]);
        // Three accesses: the index, the slot, the page of segments.
        match queue.next(&memory, &grants, &disk()).unwrap() {
            Next::Request(request) => {
                assert!(after >= 3);
                let Action::Read(io) = &request.action else {
                    panic!("{request:?}")
                };
                assert_eq!((io.area.offset, io.area.len_bytes), (4 * 512, 2 * 512));
                let piece = &io.pieces[0];
                assert_eq!((piece.at, piece.len_bytes), (Gpa(0x1_0200), 1024));
                queue.answer(&memory, request, Status::Okay).unwrap();
            }
            Next::Refused(_) => assert!(after < 3),
            Next::Empty => panic!("the request is lost"),
        }
        let seen = memory.take_seen();
        let reads = seen.iter().filter_map(|seen| match seen {
            Seen::Read { at, .. } => Some(at),
            _ => None,
        });
        let reads: Vec<_> = reads.collect();
        assert!(
            reads.len() <= 2 && reads.first() != reads.get(1),
            "{reads:?}"
        );
    }
}

/// XSA-216: a response must carry nothing but itself, padding included.
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

/// XSA-391: a back end that notifies without need keeps a guest busy with interrupts.
#[test]
fn xsa_391_a_burst_of_answers_is_one_notification() {
    let mut guest = Guest::new(Layout::X86_64, disk());
    for id in 0..32 {
        guest.put(&transfer(Layout::X86_64, 3, (id, 0), &[]));
    }
    guest.front.wait_for(&guest.memory, 32);
    let mut notified = 0;
    for _ in 0..32 {
        let request = guest.request();
        guest
            .queue
            .answer(&guest.memory, request, Status::Okay)
            .unwrap();
        notified += u32::from(guest.queue.publish(&guest.memory).unwrap());
    }
    assert_eq!(notified, 1);
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
