//! What Xen's advisories teach about rings, one test each.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_ring::{BackRing, RingError};
use pvh_testkit::{
    grants::GrantTable,
    racing::{RacingMemory, Seen},
    ring::FrontRing,
};

use crate::memory;

const RING: Gpa = Gpa(0x1000);

/// XSA-39: a back end must not work through requests that an impossible index claims.
#[test]
fn xsa_39_an_index_that_jumps_ends_the_ring_at_once() {
    let memory = memory();
    let front = FrontRing::new(&memory, &[RING], 12);
    let mut back = BackRing::attach(&memory, &[RING], 12).unwrap();
    for req_prod in [257, 0x8000_0000, u32::MAX] {
        front.claim(&memory, req_prod);
        for _ in 0..2 {
            let taken = back.take(&memory, &mut [0; 12]);
            assert!(
                matches!(taken, Err(RingError::Overflow { .. })),
                "{taken:?}"
            );
        }
        assert_eq!(back.unanswered(), 0);
    }
}

/// XSA-155: a request that the front end changes meanwhile is copied once, and checked in the copy.
#[test]
fn xsa_155_a_request_is_read_once() {
    for after in 0..5 {
        let memory = RacingMemory::new(0x2000, &GrantTable::default());
        let mut front = FrontRing::new(memory.ram(), &[RING], 112);
        let mut back = BackRing::attach(&memory, &[RING], 112).unwrap();
        front.put(memory.ram(), &[1; 112]);
        front.publish(memory.ram());
        memory.take_seen();
        memory.change_after(after, Gpa(0x1040), &[2; 112]);
        let mut request = [0; 112];
        back.take(&memory, &mut request).unwrap();
        // The index is looked at first, then the slot is copied.
        assert_eq!(request, [if after < 2 { 2 } else { 1 }; 112]);
        let seen = memory.take_seen();
        let copies = seen.iter().filter(|seen| matches!(seen, Seen::Read { .. }));
        assert_eq!(copies.count(), 1, "{seen:x?}");
    }
}

/// XSA-216: a response must carry nothing but itself; what is not written stays the guest's.
#[test]
fn xsa_216_only_the_bytes_of_a_response_are_written() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[RING], 12);
    let mut back = BackRing::attach(&memory, &[RING], 12).unwrap();
    front.put(&memory, &[7; 12]);
    front.publish(&memory);
    back.take(&memory, &mut [0; 12]).unwrap();
    back.put(&memory, &[9; 4]).unwrap();
    back.publish(&memory).unwrap();
    let (_, slot) = front.take(&memory, 12).unwrap();
    assert_eq!(slot, [9, 9, 9, 9, 7, 7, 7, 7, 7, 7, 7, 7]);
}

/// XSA-391: a back end that notifies without need keeps a guest busy with interrupts.
#[test]
fn xsa_391_a_front_end_is_notified_only_of_what_it_waits_for() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[RING], 12);
    let mut back = BackRing::attach(&memory, &[RING], 12).unwrap();
    for _ in 0..256 {
        front.put(&memory, &[1; 12]);
    }
    front.publish(&memory);
    front.wait_for(&memory, 256);
    let mut notified = 0;
    for _ in 0..256 {
        back.take(&memory, &mut [0; 12]).unwrap();
        back.put(&memory, &[0; 4]).unwrap();
        notified += u32::from(back.publish(&memory).unwrap());
    }
    assert_eq!(notified, 1);
}

/// A front end that moves its index back takes no request back that was counted.
#[test]
fn a_counted_request_is_taken_wherever_the_index_moves() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[RING], 8);
    let mut back = BackRing::attach(&memory, &[RING], 8).unwrap();
    front.put(&memory, &[5; 8]);
    front.publish(&memory);
    assert_eq!(back.has_waiting(&memory, 1), Ok(true));
    memory.write(RING, &0_u32.to_le_bytes()).unwrap();
    let mut request = [0; 8];
    back.take_counted(&memory, &mut request).unwrap();
    assert_eq!((request, back.unanswered()), ([5; 8], 1));
    assert!(back.waiting(&memory).is_err(), "the index is behind");
    // More than the ring has slots cannot be counted.
    for _ in 1..256 {
        back.take_counted(&memory, &mut request).unwrap();
    }
    let more = back.take_counted(&memory, &mut request);
    assert!(matches!(more, Err(RingError::Overflow { .. })), "{more:?}");
}
