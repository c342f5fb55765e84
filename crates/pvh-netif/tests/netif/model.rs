//! Random packets, honest and not, both ways.

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_netif::{Checksum, DeliverError, Frame, Next, Status};
use pvh_testkit::netif::transmit as request;

use crate::guest::{ALL, Guest};

proptest! {
    /// A packet cut into parts anyhow arrives as it was, across the wrap of the ring.
    #[test]
    fn what_a_guest_sends_is_put_together(
        packets in proptest::collection::vec((proptest::collection::vec(1_usize..=3000, 1..=18), 0_u16..1000), 1..40),
    ) {
        let mut guest = Guest::new(ALL);
        for (sizes, offset) in packets {
            let total: usize = sizes.iter().sum();
            let Ok(total) = u16::try_from(total) else { continue };
            let mut want = Vec::new();
            let mut slots = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                let frame = 0x10 + u32::try_from(index).unwrap();
                let bytes: Vec<u8> = (0..*size).map(|at| (at * 7 + index) as u8).collect();
                let at = Gpa((u64::from(frame) << 12) + u64::from(offset));
                guest.memory.write(at, &bytes).unwrap();
                want.extend(bytes);
                let flags = if index + 1 < sizes.len() { 4 } else { 0 };
                let size = if index == 0 { total } else { u16::try_from(*size).unwrap() };
                slots.push(request(frame, offset, flags, (frame as u16, size)));
            }
            guest.send(&slots);
            match guest.next() {
                Next::Packet(packet) => {
                    let mut got = Vec::new();
                    for piece in &packet.pieces {
                        let mut bytes = vec![0; piece.len_bytes.into()];
                        guest.memory.read(piece.at, &mut bytes).unwrap();
                        got.extend(bytes);
                    }
                    prop_assert_eq!(&got, &want);
                    guest.transmit.answer(&guest.memory, packet, Status::Okay).unwrap();
                    prop_assert!(guest.sent().iter().all(|(_, status)| *status == 0));
                }
                other => prop_assert!(total < 14, "{:?}", other),
            }
            guest.sent();
        }
    }

    /// Whatever stands in the ring, a call ends, and no page stays in use behind its back.
    #[test]
    fn any_bytes_are_taken_refused_or_end_the_queue(slots in proptest::collection::vec(any::<[u8; 12]>(), 1..200)) {
        let mut guest = Guest::new(ALL);
        guest.send(&slots);
        let mut taken = 0;
        while let Ok(next) = guest.transmit.next(&guest.memory, &guest.grants) {
            match next {
                Next::Empty => break,
                Next::Refused(_) => {}
                Next::Packet(packet) => {
                    prop_assert_eq!(guest.grants.in_use(), packet.pieces.len());
                    let sum: u32 = packet.pieces.iter().map(|p| u32::from(p.len_bytes)).sum();
                    prop_assert_eq!(sum, u32::from(packet.len_bytes));
                    prop_assert!(packet.pieces.iter().all(|p| p.at.0 % 4096 + u64::from(p.len_bytes) <= 4096));
                    guest.transmit.answer(&guest.memory, packet, Status::Okay).unwrap();
                }
            }
            prop_assert_eq!(guest.grants.in_use(), 0);
            taken += 1;
        }
        prop_assert!(taken <= slots.len());
        prop_assert!(guest.sent().len() <= slots.len());
    }

    /// What is delivered lies in the guest's pages, and every slot that was taken is answered.
    #[test]
    fn what_is_delivered_arrives(lens in proptest::collection::vec(1_usize..30000, 1..60)) {
        let mut guest = Guest::new(ALL);
        let mut offered = 0;
        let mut answered = 0;
        for len in lens {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 3 + len) as u8).collect();
            let frame = Frame { bytes: &bytes, checksum: Checksum::Complete, gso: None };
            loop {
                match guest.receive.deliver(&guest.memory, &guest.grants, frame) {
                    Ok(()) => break,
                    Err(DeliverError::NoRoom { .. }) => {
                        guest.offer([0x20 + offered % 0x30]);
                        offered += 1;
                    }
                    Err(other) => prop_assert!(false, "{:?}", other),
                }
            }
            let mut got = Vec::new();
            for (slot, [id, _, _, _, _, _, low, high]) in guest.received() {
                prop_assert_eq!(slot, answered % 256);
                answered += 1;
                let mut part = vec![0; usize::from(u16::from_le_bytes([low, high]))];
                guest.memory.read(Gpa(u64::from(id) << 12), &mut part).unwrap();
                got.extend(part);
            }
            prop_assert_eq!(&got, &bytes);
        }
    }
}
