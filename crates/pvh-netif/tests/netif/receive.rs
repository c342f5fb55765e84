//! Packets that the guest receives.

use pvh_netif::{Checksum, DeliverError, FillsChecksums, Frame, Gso, GsoKind, Offloads};
use pvh_testkit::grants::NotGranted;

use crate::guest::{ALL, Guest};

/// A packet of some length whose type is IPv4 or IPv6.
fn packet(len: usize, ether_type: [u8; 2]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    if let Some(field) = bytes.get_mut(12..14) {
        field.copy_from_slice(&ether_type);
    }
    bytes
}

fn plain(bytes: &[u8]) -> Frame<'_> {
    Frame {
        bytes,
        checksum: Checksum::Complete,
        gso: None,
    }
}

/// A response: id, offset, flags, status.
fn response(id: u16, flags: u16, status: i16) -> [u8; 8] {
    let fields = [
        id.to_le_bytes(),
        [0; 2],
        flags.to_le_bytes(),
        status.to_le_bytes(),
    ];
    fields.as_flattened().try_into().unwrap()
}

#[test]
fn a_packet_lies_in_the_page_of_its_slot() {
    let mut guest = Guest::new(ALL);
    guest.offer([0x31, 0x30]);
    let bytes = packet(60, [8, 0]);
    guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&bytes))
        .unwrap();
    assert_eq!(guest.received(), [(0, response(0x31, 0, 60))]);
    assert_eq!(guest.bytes::<60>(0x3_1000)[..], bytes);
    assert_eq!(guest.grants.in_use(), 0);
}

#[test]
fn a_long_packet_takes_a_slot_a_page_each_response_in_its_request_s_slot() {
    let mut guest = Guest::new(ALL);
    guest.offer([0x30, 0x31, 0x32, 0x33]);
    let bytes = packet(2 * 4096 + 1, [8, 0]);
    let frame = Frame {
        checksum: Checksum::Validated,
        ..plain(&bytes)
    };
    guest
        .receive
        .deliver(&guest.memory, &guest.grants, frame)
        .unwrap();
    let more = 4;
    let want = [
        (0, response(0x30, 1 | more, 4096)),
        (1, response(0x31, more, 4096)),
        (2, response(0x32, 0, 1)),
    ];
    assert_eq!(guest.received(), want);
    assert_eq!(guest.bytes::<4096>(0x3_1000)[..], bytes[4096..8192]);
    assert_eq!(guest.bytes::<1>(0x3_2000)[..], bytes[8192..]);
}

#[test]
fn a_large_packet_has_its_extra_info_in_the_second_slot() {
    for (kind, number, ether_type) in [
        (GsoKind::TcpV4, 1, [8, 0]),
        (GsoKind::TcpV6, 2, [0x86, 0xDD]),
    ] {
        let mut guest = Guest::new(ALL);
        guest.offer([0x30, 0x31, 0x32]);
        let bytes = packet(5000, ether_type);
        let gso = Some(Gso {
            kind,
            segment_bytes: 1448,
        });
        let frame = Frame {
            bytes: &bytes,
            checksum: Checksum::Blank,
            gso,
        };
        guest
            .receive
            .deliver(&guest.memory, &guest.grants, frame)
            .unwrap();
        // data_validated, csum_blank, more_data, extra_info
        let want = [
            (0, response(0x30, 1 | 2 | 4 | 8, 4096)),
            (1, [1, 0, 0xA8, 0x05, number, 0, 0, 0]),
            (2, response(0x32, 0, 904)),
        ];
        assert_eq!(guest.received(), want);
        assert_eq!(guest.bytes::<904>(0x3_2000)[..], bytes[4096..]);
        assert_eq!(
            guest.bytes::<4096>(0x3_1000),
            [0; 4096],
            "the extra-info's page is not used"
        );
    }
}

#[test]
fn without_room_nothing_is_taken_and_the_guest_is_asked_to_say_when_there_is() {
    let mut guest = Guest::new(ALL);
    guest.offer([0x30]);
    let bytes = packet(4097, [8, 0]);
    let error = guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&bytes))
        .unwrap_err();
    assert!(
        matches!(error, DeliverError::NoRoom { needed: 2 }),
        "{error:?}"
    );
    assert_eq!(guest.wanted(), 2, "to be notified of the second offer");
    assert_eq!(guest.received(), []);
    guest.offer([0x31]);
    guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&bytes))
        .unwrap();
    assert_eq!(guest.received().len(), 2);
}

#[test]
fn lengths_that_fit_no_slots_are_refused() {
    let all = packet(65536, [8, 0]);
    let mut guest = Guest::new(ALL);
    guest.offer(0x20..0x32);
    let mut deliver = |len: usize| {
        let delivered = guest
            .receive
            .deliver(&guest.memory, &guest.grants, plain(&all[..len]));
        delivered.map_err(|error| error.to_string())
    };
    assert_eq!(
        deliver(0).unwrap_err(),
        "a packet of 0 bytes is refused: 1 to 65535 are allowed"
    );
    assert!(deliver(65536).is_err());
    deliver(65535).unwrap();
    let offloads = Offloads {
        has_scatter_gather: false,
        ..ALL
    };
    let mut guest = Guest::new(offloads);
    guest.offer([0x30, 0x31]);
    let long = guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&all[..4097]));
    assert!(
        matches!(
            long,
            Err(DeliverError::Length {
                len_bytes: 4097,
                most: 4096
            })
        ),
        "{long:?}"
    );
    guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&all[..4096]))
        .unwrap();
}

#[test]
fn offloads_that_the_guest_does_not_take_are_refused() {
    let v4 = packet(60, [8, 0]);
    let v6 = packet(60, [0x86, 0xDD]);
    let arp = packet(60, [8, 6]);
    let mut tagged = packet(60, [0x81, 0]);
    tagged[16..18].copy_from_slice(&[8, 0]);
    let blank = |bytes| Frame {
        bytes,
        checksum: Checksum::Blank,
        gso: None,
    };
    let gso = |bytes, kind, checksum| {
        let gso = Some(Gso {
            kind,
            segment_bytes: 1000,
        });
        Frame {
            bytes,
            checksum,
            gso,
        }
    };
    let is_taken = |offloads, frame: Frame<'_>| {
        let mut guest = Guest::new(offloads);
        guest.offer([0x30, 0x31]);
        match guest.receive.deliver(&guest.memory, &guest.grants, frame) {
            Ok(()) => true,
            Err(DeliverError::Offload) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    let only = |ipv4, ipv6| Offloads {
        fills_checksums: FillsChecksums { ipv4, ipv6 },
        ..ALL
    };
    assert!(is_taken(only(true, false), blank(&v4)) && is_taken(only(true, false), blank(&tagged)));
    assert!(
        !is_taken(only(false, true), blank(&v4)) && !is_taken(only(false, true), blank(&tagged))
    );
    assert!(is_taken(only(false, true), blank(&v6)) && !is_taken(only(true, false), blank(&v6)));
    assert!(!is_taken(ALL, blank(&arp)) && !is_taken(ALL, blank(&v4[..13])));
    for (kind, bytes) in [(GsoKind::TcpV4, &v4), (GsoKind::TcpV6, &v6)] {
        assert!(is_taken(ALL, gso(bytes, kind, Checksum::Blank)));
        assert!(
            !is_taken(ALL, gso(bytes, kind, Checksum::Validated)),
            "nobody fills in its sums"
        );
        let without = Offloads {
            has_tcp_v4: false,
            has_tcp_v6: false,
            ..ALL
        };
        assert!(!is_taken(without, gso(bytes, kind, Checksum::Blank)));
    }
}

#[test]
fn a_page_that_is_not_granted_for_writing_loses_the_packet_and_answers_every_slot() {
    let mut guest = Guest::new(ALL);
    guest.offer([0x30, 0x10]);
    let bytes = packet(5000, [8, 0]);
    let error = guest
        .receive
        .deliver(&guest.memory, &guest.grants, plain(&bytes))
        .unwrap_err();
    let DeliverError::Grant {
        index: 1,
        reference: 0x10,
        source: NotGranted,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        guest.received(),
        [(0, response(0x30, 4, -1)), (1, response(0x10, 0, -1))]
    );
    assert_eq!(
        guest.bytes::<4096>(0x3_0000),
        [0; 4096],
        "nothing was written"
    );
    assert_eq!(guest.grants.in_use(), 0);
}
