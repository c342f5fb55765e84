//! A ring between this back end and the front end of pvh-testkit.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod advisories;

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, VecMemory};
use pvh_ring::{AttachError, BackRing, RingError, Slot};
use pvh_testkit::ring::FrontRing;

/// The size of a page in bytes.
const PAGE: u64 = 4096;

fn memory() -> VecMemory {
    VecMemory::zeroed(&[(Gpa(0), 0x2_0000)]).unwrap()
}

#[test]
fn a_page_of_112_byte_slots_has_32_and_of_108_bytes_too() {
    let memory = memory();
    let slots = |pages: &[Gpa], bytes| BackRing::attach(&memory, pages, bytes).unwrap().slots();
    assert_eq!(slots(&[Gpa(0x1000)], 112), 32);
    assert_eq!(slots(&[Gpa(0x1000)], 108), 32);
    // netif.h: 12 bytes of tx request, 8 of rx request.
    assert_eq!(slots(&[Gpa(0x1000)], 12), 256);
    assert_eq!(slots(&[Gpa(0x1000)], 8), 256);
    let sixteen: Vec<_> = (0..16).map(|page| Gpa(page * PAGE)).collect();
    assert_eq!(slots(&sixteen, 112), 512);
}

#[test]
fn a_shape_that_no_ring_has_is_refused() {
    let memory = memory();
    for count in [0, 3, 17, 32] {
        let pages = vec![Gpa(0); count];
        let error = BackRing::attach(&memory, &pages, 112).unwrap_err();
        assert_eq!(error, AttachError::Pages { pages: count });
    }
    let pages = [Gpa(0x1000), Gpa(0x2008)];
    let error = BackRing::attach(&memory, &pages, 112).unwrap_err();
    let (index, at) = (1, Gpa(0x2008));
    assert_eq!(error, AttachError::Misaligned { index, at });
    for slot_bytes in [0, 4033, u32::MAX] {
        let error = BackRing::attach(&memory, &[Gpa(0)], slot_bytes).unwrap_err();
        assert_eq!(error, AttachError::Slot { slot_bytes });
    }
    let error = BackRing::attach(&memory, &[Gpa(0x2_0000)], 112).unwrap_err();
    assert!(
        matches!(error, AttachError::Ring(RingError::Memory(_))),
        "{error:?}"
    );
}

#[test]
fn requests_come_in_order_and_responses_go_into_the_slots_behind_each_other() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    let mut buf = [0; 112];
    assert_eq!(back.take(&memory, &mut buf), Ok(None));
    for value in 0..32 {
        front.put(&memory, &[value; 112]);
    }
    front.publish(&memory);
    assert_eq!(back.waiting(&memory), Ok(32));
    for value in 0..32 {
        let slot = back.take(&memory, &mut buf).unwrap();
        assert_eq!(slot, Some(Slot(value)));
        assert!(buf.iter().all(|byte| u32::from(*byte) == value));
    }
    assert_eq!(back.unanswered(), 32);
    back.put(&memory, &[0xA5; 16]).unwrap();
    assert_eq!(front.take(&memory, 16), None, "not before it is published");
    back.publish(&memory).unwrap();
    assert_eq!(front.take(&memory, 16), Some((0, vec![0xA5; 16])));
    assert_eq!(back.unanswered(), 31);
}

#[test]
fn more_responses_than_requests_are_refused() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    assert_eq!(back.put(&memory, &[0; 16]), Err(RingError::NothingToAnswer));
    front.put(&memory, &[1; 112]);
    front.publish(&memory);
    back.take(&memory, &mut [0; 112]).unwrap();
    back.put(&memory, &[0; 16]).unwrap();
    assert_eq!(back.put(&memory, &[0; 16]), Err(RingError::NothingToAnswer));
}

/// RING_REQUEST_PROD_OVERFLOW and its twin: indices that no honest front end writes.
#[test]
fn a_request_index_that_jumps_is_an_overflow_and_takes_nothing() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    for _ in 0..4 {
        front.put(&memory, &[1; 112]);
    }
    front.publish(&memory);
    back.take(&memory, &mut [0; 112]).unwrap();
    back.take(&memory, &mut [0; 112]).unwrap();
    // Ahead by one too many, behind what was taken, and far away.
    for req_prod in [33_u32, 1, 0, 0x8000_0000, u32::MAX] {
        memory.write(Gpa(0x1000), &req_prod.to_le_bytes()).unwrap();
        let error = back.take(&memory, &mut [0; 112]).unwrap_err();
        let (rsp_prod, slots) = (0, 32);
        assert_eq!(
            error,
            RingError::Overflow {
                req_prod,
                rsp_prod,
                slots
            }
        );
        assert_eq!(back.wants_service(&memory), Err(error));
        assert_eq!(back.unanswered(), 2);
    }
    memory.write(Gpa(0x1000), &32_u32.to_le_bytes()).unwrap();
    assert_eq!(back.waiting(&memory), Ok(30));
}

#[test]
fn a_response_index_that_the_guest_changes_is_not_believed() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    front.put(&memory, &[7; 112]);
    front.publish(&memory);
    memory
        .write(Gpa(0x1008), &0xDEAD_u32.to_le_bytes())
        .unwrap();
    assert_eq!(back.take(&memory, &mut [0; 112]), Ok(Some(Slot(0))));
    back.put(&memory, &[9; 16]).unwrap();
    back.publish(&memory).unwrap();
    assert_eq!(front.take(&memory, 16), Some((0, vec![9; 16])));
}

#[test]
fn a_front_end_that_did_not_ask_is_not_notified() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    for _ in 0..8 {
        front.put(&memory, &[1; 112]);
    }
    front.publish(&memory);
    // The front end wants to hear of the fifth response.
    memory.write(Gpa(0x100C), &5_u32.to_le_bytes()).unwrap();
    let mut notified = Vec::new();
    for _ in 0..8 {
        back.take(&memory, &mut [0; 112]).unwrap();
        back.put(&memory, &[0; 16]).unwrap();
        notified.push(back.publish(&memory).unwrap());
    }
    let fifth = [false, false, false, false, true, false, false, false];
    assert_eq!(notified, fifth);
    assert_eq!(back.publish(&memory), Ok(false), "nothing is new");
}

#[test]
fn a_back_end_asks_for_a_notification_only_before_it_sleeps() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    assert_eq!(back.wants_service(&memory), Ok(false));
    front.put(&memory, &[1; 112]);
    assert!(front.publish(&memory), "the sleeper is to be woken");
    front.put(&memory, &[1; 112]);
    assert!(!front.publish(&memory), "it works already");
    assert_eq!(back.wants_service(&memory), Ok(true));
    back.take(&memory, &mut [0; 112]).unwrap();
    back.take(&memory, &mut [0; 112]).unwrap();
    assert_eq!(back.wants_service(&memory), Ok(false));
    front.put(&memory, &[1; 112]);
    assert!(front.publish(&memory));
}

#[test]
fn a_back_end_that_needs_three_requests_is_notified_of_the_third() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 8);
    let back = BackRing::attach(&memory, &[Gpa(0x1000)], 8).unwrap();
    assert_eq!(back.has_waiting(&memory, 3), Ok(false));
    let notified = [(); 4].map(|()| {
        front.put(&memory, &[1; 8]);
        front.publish(&memory)
    });
    assert_eq!(notified, [false, false, true, false]);
    assert_eq!(back.has_waiting(&memory, 3), Ok(true));
    assert_eq!(back.has_waiting(&memory, 5), Ok(false));
}

#[test]
fn a_ring_in_use_goes_on_behind_its_responses() {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[Gpa(0x1000)], 112);
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    for value in 0..3 {
        front.put(&memory, &[value; 112]);
    }
    front.publish(&memory);
    back.take(&memory, &mut [0; 112]).unwrap();
    back.put(&memory, &[0; 16]).unwrap();
    back.publish(&memory).unwrap();
    let mut anew = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap();
    let mut request = [0; 112];
    assert_eq!(anew.take(&memory, &mut request), Ok(Some(Slot(1))));
    assert_eq!(request, [1; 112]);
    memory.write(Gpa(0x1000), &40_u32.to_le_bytes()).unwrap();
    let error = BackRing::attach(&memory, &[Gpa(0x1000)], 112).unwrap_err();
    let overflow = RingError::Overflow {
        req_prod: 40,
        rsp_prod: 1,
        slots: 32,
    };
    assert_eq!(error, AttachError::Ring(overflow));
}

#[test]
fn a_page_that_goes_away_is_an_error() {
    let memory = VecMemory::zeroed(&[(Gpa(0x1000), 0x1000), (Gpa(0x3000), 0x1000)]).unwrap();
    let mut back = BackRing::attach(&memory, &[Gpa(0x1000), Gpa(0x2000)], 112).unwrap();
    memory.write(Gpa(0x1000), &40_u32.to_le_bytes()).unwrap();
    let taken = (0..40).filter(|_| matches!(back.take(&memory, &mut [0; 112]), Ok(Some(_))));
    // Slot 36 begins at 64 + 36 * 112 = 4096.
    assert_eq!(taken.count(), 36);
    let error = back.take(&memory, &mut [0; 112]).unwrap_err();
    assert!(matches!(error, RingError::Memory(_)), "{error:?}");
}

/// What happens to a ring.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    PublishRequests,
    Take,
    Answer,
    PublishResponses,
    Receive,
    Sleep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(Step::Put),
        2 => Just(Step::PublishRequests),
        4 => Just(Step::Take),
        4 => Just(Step::Answer),
        2 => Just(Step::PublishResponses),
        4 => Just(Step::Receive),
        1 => Just(Step::Sleep),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// Every request arrives once and in order, and so does every response, across the wrap of the
    /// slots, of the pages and of the indices.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(
        steps in steps(),
        order in 0_u32..3,
        slot_bytes in prop_oneof![Just(8_u32), Just(12), Just(108), Just(112), Just(1000)],
        start in prop_oneof![Just(0_u32), Just(u32::MAX - 5), any::<u32>()],
    ) {
        let memory = memory();
        // Not in order of address: a ring's pages lie anywhere.
        let pages: Vec<_> = (0..1_u64 << order).map(|page| Gpa((7 - page) * PAGE)).collect();
        let mut front = FrontRing::new(&memory, &pages, slot_bytes);
        front.start_at(&memory, start);
        let mut back = BackRing::attach(&memory, &pages, slot_bytes).unwrap();
        let bytes = slot_bytes as usize;
        let (mut sent, mut taken, mut answered, mut received) = (vec![], vec![], vec![], vec![]);
        for step in steps {
            match step {
                Step::Put(value) if front.in_flight() < back.slots() => {
                    front.put(&memory, &vec![value; bytes]);
                    sent.push(value);
                }
                Step::PublishRequests => { front.publish(&memory); }
                Step::Take => {
                    let mut buf = vec![0; bytes];
                    if back.take(&memory, &mut buf).unwrap().is_some() {
                        prop_assert!(buf.iter().all(|byte| *byte == buf[0]));
                        taken.push(buf[0]);
                    }
                }
                Step::Answer if back.unanswered() > 0 => {
                    let value = taken[answered.len()].wrapping_add(1);
                    back.put(&memory, &[value; 8]).unwrap();
                    answered.push(value);
                }
                Step::PublishResponses => { back.publish(&memory).unwrap(); }
                Step::Receive => received.extend(front.take(&memory, 8).map(|(_, bytes)| bytes[0])),
                Step::Sleep => { back.wants_service(&memory).unwrap(); }
                _ => {}
            }
            prop_assert_eq!(back.unanswered() as usize, taken.len() - answered.len());
        }
        prop_assert_eq!(&sent[..taken.len()], &taken[..]);
        prop_assert_eq!(&answered[..received.len()], &received[..]);
    }
}
