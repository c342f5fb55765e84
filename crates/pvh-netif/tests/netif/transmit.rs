//! Packets that the guest sends.

use pvh_abi::Gpa;
use pvh_netif::{Checksum, Gso, GsoKind, Next, Packet, Refusal, Status, TransmitError};
use pvh_testkit::{
    grants::{GrantedFrame, NotGranted},
    netif::{extra, transmit as request},
};

use crate::guest::{ALL, Guest};

const CSUM_BLANK: u16 = 1;
const VALIDATED: u16 = 2;
const MORE: u16 = 4;
const EXTRA: u16 = 8;

fn parts(packet: &Packet<GrantedFrame>) -> Vec<(u64, u16)> {
    packet
        .pieces
        .iter()
        .map(|piece| (piece.at.0, piece.len_bytes))
        .collect()
}

#[test]
fn a_packet_of_one_slot() {
    let mut guest = Guest::new(ALL);
    guest.send(&[request(0x12, 0x40, 0, (77, 60))]);
    let packet = guest.packet();
    assert_eq!(
        (packet.len_bytes, packet.checksum, packet.gso),
        (60, Checksum::Complete, None)
    );
    assert_eq!(parts(&packet), [(0x1_2040, 60)]);
    assert_eq!(packet.pieces[0].at, Gpa(0x1_2040));
    assert_eq!(guest.grants.in_use(), 1);
    guest
        .transmit
        .answer(&guest.memory, packet, Status::Okay)
        .unwrap();
    assert_eq!(guest.grants.in_use(), 0);
    assert_eq!(guest.sent(), [(77, 0)]);
    assert!(matches!(guest.next(), Next::Empty));
}

#[test]
fn the_first_of_several_slots_has_the_size_of_all() {
    let mut guest = Guest::new(ALL);
    guest.send(&[
        request(0x10, 4000, CSUM_BLANK | VALIDATED | MORE, (1, 5000)),
        request(0x11, 0, MORE, (2, 4096)),
        request(0x12, 8, 0, (3, 810)),
    ]);
    let packet = guest.packet();
    assert_eq!(packet.checksum, Checksum::Blank);
    assert_eq!(
        parts(&packet),
        [(0x1_0FA0, 94), (0x1_1000, 4096), (0x1_2008, 810)]
    );
    guest
        .transmit
        .answer(&guest.memory, packet, Status::Dropped)
        .unwrap();
    assert_eq!(guest.sent(), [(1, -2), (2, -2), (3, -2)]);
}

#[test]
fn a_large_packet_says_how_to_cut_it_and_its_extra_slot_is_null() {
    for (number, kind) in [(1, GsoKind::TcpV4), (2, GsoKind::TcpV6)] {
        let mut guest = Guest::new(ALL);
        guest.send(&[
            request(0x10, 0, VALIDATED | EXTRA | MORE, (1, 5000)),
            extra(4, 1, [0; 4]), // a hash, and more to come
            extra(1, 0, [0xA8, 0x05, number, 0]),
            request(0x11, 0, 0, (2, 904)),
        ]);
        let packet = guest.packet();
        assert_eq!(packet.checksum, Checksum::Validated);
        assert_eq!(
            packet.gso,
            Some(Gso {
                kind,
                segment_bytes: 1448
            })
        );
        assert_eq!(parts(&packet), [(0x1_0000, 4096), (0x1_1000, 904)]);
        guest
            .transmit
            .answer(&guest.memory, packet, Status::Okay)
            .unwrap();
        assert_eq!(guest.sent(), [(1, 0), (0, 1), (0, 1), (2, 0)]);
    }
}

#[test]
fn packets_are_answered_in_any_order() {
    let mut guest = Guest::new(ALL);
    guest.send(&[request(0x10, 0, 0, (1, 60)), request(0x11, 0, 0, (2, 60))]);
    let (first, second) = (guest.packet(), guest.packet());
    guest
        .transmit
        .answer(&guest.memory, second, Status::Okay)
        .unwrap();
    guest
        .transmit
        .answer(&guest.memory, first, Status::Error)
        .unwrap();
    assert_eq!(guest.sent(), [(2, 0), (1, -1)]);
}

#[test]
fn a_packet_that_is_wrong_is_answered_and_the_ring_goes_on() {
    let cases: [(Vec<[u8; 12]>, Refusal<NotGranted>); 6] = [
        (
            vec![request(0x10, 0, 0, (1, 13))],
            Refusal::TooShort { len_bytes: 13 },
        ),
        (
            vec![
                request(0x10, 0, MORE, (1, 100)),
                request(0x10, 0, 0, (1, 101)),
            ],
            Refusal::PartTooLong {
                index: 1,
                size: 101,
                left: 100,
            },
        ),
        (
            vec![request(0x50, 0, 0, (1, 100))],
            Refusal::Grant {
                index: 0,
                reference: 0x50,
                source: NotGranted,
            },
        ),
        (
            vec![
                request(0x10, 0, MORE, (1, 100)),
                request(0x99, 0, 0, (1, 50)),
            ],
            Refusal::Grant {
                index: 1,
                reference: 0x99,
                source: NotGranted,
            },
        ),
        (
            (0..19)
                .map(|n| request(0x10, 0, if n < 18 { MORE } else { 0 }, (1, 100)))
                .collect(),
            Refusal::TooManySlots { slots: 19 },
        ),
        (
            (0..20)
                .map(|n| request(0x10, 0, if n < 19 { MORE } else { 0 }, (1, 100)))
                .collect(),
            Refusal::TooManySlots { slots: 20 },
        ),
    ];
    for (slots, want) in cases {
        let mut guest = Guest::new(ALL);
        guest.send(&slots);
        guest.send(&[request(0x10, 0, 0, (9, 60))]);
        assert_eq!(guest.refusal(), want);
        assert_eq!(guest.sent(), vec![(1, -1); slots.len()]);
        assert_eq!(guest.grants.in_use(), 0);
        assert_eq!(guest.packet().len_bytes, 60);
    }
}

#[test]
fn eighteen_slots_are_taken() {
    let mut guest = Guest::new(ALL);
    let slots: Vec<_> = (0..18)
        .map(|n| match n {
            0 => request(0x10, 0, MORE, (0, 1800)),
            17 => request(0x11, 0, 0, (17, 100)),
            n => request(0x11, 0, MORE, (n, 100)),
        })
        .collect();
    guest.send(&slots);
    let packet = guest.packet();
    assert!(
        parts(&packet)
            .iter()
            .all(|(_, len_bytes)| *len_bytes == 100)
    );
    assert_eq!(packet.pieces.len(), 18);
}

/// XEN_NETIF_EXTRA_TYPE_MCAST_ADD and _DEL come in a request of their own.
#[test]
fn multicast_filters_are_refused() {
    for kind in [2, 3] {
        let mut guest = Guest::new(ALL);
        guest.send(&[
            request(0, 0, EXTRA, (5, 0)),
            extra(kind, 0, [1, 0, 0x5E, 0]),
        ]);
        assert_eq!(guest.refusal(), Refusal::Multicast);
        assert_eq!(guest.sent(), [(5, -1), (0, 1)]);
    }
}

#[test]
fn what_leaves_the_ring_without_meaning_ends_the_queue() {
    let endless = || {
        (0..21)
            .map(|_| request(0x10, 0, MORE, (1, 100)))
            .collect::<Vec<_>>()
    };
    let gso = |bytes| vec![request(0x10, 0, EXTRA, (1, 100)), extra(1, 0, bytes)];
    let kind = |kind| vec![request(0x10, 0, EXTRA, (1, 100)), extra(kind, 0, [0; 4])];
    let crosses = |offset, size| TransmitError::CrossesPage { offset, size };
    let cases = [
        (
            vec![request(0x10, 0, MORE, (1, 100))],
            TransmitError::Truncated { slots: 1 },
        ),
        (
            vec![request(0x10, 0, EXTRA, (1, 100))],
            TransmitError::Truncated { slots: 1 },
        ),
        (endless(), TransmitError::Endless),
        (vec![request(0x10, 4000, 0, (1, 97))], crosses(4000, 97)),
        (
            vec![request(0x10, 0xFFFF, 0, (1, 0xFFFF))],
            crosses(0xFFFF, 0xFFFF),
        ),
        (
            vec![
                request(0x10, 0, MORE, (1, 100)),
                request(0x10, 4096, 0, (2, 1)),
            ],
            crosses(4096, 1),
        ),
        (kind(0), TransmitError::ExtraType { kind: 0 }),
        (kind(5), TransmitError::ExtraType { kind: 5 }),
        (kind(255), TransmitError::ExtraType { kind: 255 }),
        (
            gso([0, 0, 1, 0]),
            TransmitError::Gso {
                kind: 1,
                segment_bytes: 0,
            },
        ),
        (
            gso([1, 0, 0, 0]),
            TransmitError::Gso {
                kind: 0,
                segment_bytes: 1,
            },
        ),
        (
            gso([1, 0, 3, 0]),
            TransmitError::Gso {
                kind: 3,
                segment_bytes: 1,
            },
        ),
    ];
    for (slots, want) in cases {
        let mut guest = Guest::new(ALL);
        guest.send(&slots);
        let error = guest
            .transmit
            .next(&guest.memory, &guest.grants)
            .unwrap_err();
        assert_eq!(error, want);
        assert_eq!(guest.grants.in_use(), 0);
    }
}

#[test]
fn extra_infos_without_end_end_the_queue() {
    let mut guest = Guest::new(ALL);
    let mut slots = vec![request(0x10, 0, EXTRA, (1, 100))];
    slots.extend([extra(4, 1, [0; 4]); 30]);
    guest.send(&slots);
    let error = guest
        .transmit
        .next(&guest.memory, &guest.grants)
        .unwrap_err();
    assert_eq!(error, TransmitError::Endless);
}
