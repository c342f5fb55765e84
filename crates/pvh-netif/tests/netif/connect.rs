//! The keys of both ends.

use std::collections::{BTreeMap, HashMap};

use pvh_netif::{Channels, ConnectError, Features, FillsChecksums, Front, Offloads};
use pvh_xenbus::KeyError;

fn read(features: &Features, keys: &[(&str, &str)]) -> Result<Front, ConnectError> {
    let keys: HashMap<_, _> = keys.iter().copied().collect();
    Front::read(features, |key| {
        keys.get(key).map(|value| (*value).to_owned())
    })
}

const PLAIN: [(&str, &str); 4] = [
    ("request-rx-copy", "1"),
    ("tx-ring-ref", "8"),
    ("rx-ring-ref", "9"),
    ("event-channel", "15"),
];

#[test]
fn a_back_end_offers_what_it_has() {
    let keys: BTreeMap<_, _> = Features::new(4).keys().collect();
    let want = [
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-ipv6-csum-offload", "1"),
        ("feature-rx-copy", "1"),
        ("feature-rx-flip", "0"),
        ("feature-sg", "1"),
        ("feature-split-event-channels", "1"),
        ("multi-queue-max-queues", "4"),
    ];
    assert_eq!(
        keys,
        want.map(|(key, value)| (key, value.to_owned())).into()
    );
    assert_eq!(Features::carrier(false), ("carrier", "0".to_owned()));
}

#[test]
fn a_plain_front_end_takes_packets_of_one_page() {
    let front = read(&Features::default(), &PLAIN).unwrap();
    let [queue] = front.queues[..] else {
        panic!("{front:?}")
    };
    assert_eq!((queue.transmit_reference, queue.receive_reference), (8, 9));
    assert_eq!(queue.channels, Channels::Joint(15));
    // Absent means: IPv4's checksums yes, everything else no.
    let want = Offloads {
        fills_checksums: FillsChecksums {
            ipv4: true,
            ipv6: false,
        },
        ..Offloads::default()
    };
    assert_eq!(front.offloads, want);
}

#[test]
fn a_front_end_tells_what_it_takes() {
    let mut keys = PLAIN.to_vec();
    keys.extend([
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
    ]);
    keys.extend([
        ("feature-no-csum-offload", "1"),
        ("feature-ipv6-csum-offload", "1"),
    ]);
    let want = Offloads {
        has_scatter_gather: true,
        has_tcp_v4: true,
        has_tcp_v6: true,
        fills_checksums: FillsChecksums {
            ipv4: false,
            ipv6: true,
        },
    };
    assert_eq!(read(&Features::default(), &keys).unwrap().offloads, want);
}

#[test]
fn channels_may_be_split_and_queues_stand_in_folders() {
    let keys = [
        ("request-rx-copy", "1"),
        ("multi-queue-num-queues", "2"),
        ("queue-0/tx-ring-ref", "1"),
        ("queue-0/rx-ring-ref", "2"),
        ("queue-0/event-channel-tx", "3"),
        ("queue-0/event-channel-rx", "4"),
        ("queue-1/tx-ring-ref", "5"),
        ("queue-1/rx-ring-ref", "6"),
        ("queue-1/event-channel", "7"),
    ];
    let front = read(&Features::new(2), &keys).unwrap();
    let channels: Vec<_> = front.queues.iter().map(|queue| queue.channels).collect();
    let split = Channels::Split {
        transmit: 3,
        receive: 4,
    };
    assert_eq!(channels, [split, Channels::Joint(7)]);
    let error = read(&Features::new(2), &keys[..5]).unwrap_err();
    assert_eq!(
        error,
        KeyError::Missing {
            key: "queue-0/event-channel-rx".to_owned()
        }
        .into()
    );
}

#[test]
fn what_is_missing_or_no_number_is_named() {
    let without = |key: &str| {
        PLAIN
            .iter()
            .copied()
            .filter(|(k, _)| *k != key)
            .collect::<Vec<_>>()
    };
    for key in ["tx-ring-ref", "rx-ring-ref", "event-channel"] {
        let error = read(&Features::default(), &without(key)).unwrap_err();
        assert_eq!(
            error,
            KeyError::Missing {
                key: key.to_owned()
            }
            .into()
        );
    }
    assert_eq!(
        read(&Features::default(), &without("request-rx-copy")),
        Err(ConnectError::NoCopy)
    );
    for (key, value, most) in [
        ("feature-sg", "2", 1),
        ("request-rx-copy", "yes", 1),
        ("tx-ring-ref", "-1", u32::MAX),
        ("multi-queue-num-queues", "2", 1),
    ] {
        let mut keys = without(key);
        keys.push((key, value));
        let least = u32::from(key.starts_with("multi"));
        let error = read(&Features::default(), &keys).unwrap_err();
        assert_eq!(
            error,
            KeyError::Number {
                key: key.to_owned(),
                least,
                most
            }
            .into()
        );
    }
}
