//! The keys of the front end.

use std::collections::HashMap;

use pvh_blkif::{ConnectError, Features, Front, Protocol};
use pvh_xenbus::KeyError;

fn read(features: &Features, keys: &[(&str, &str)]) -> Result<Front, ConnectError> {
    let keys: HashMap<_, _> = keys.iter().copied().collect();
    Front::read(features, |key| {
        keys.get(key).map(|value| (*value).to_owned())
    })
}

/// The queues as references and port.
fn queues(front: &Front) -> Vec<(&[u32], u32)> {
    let queues = front.queues.iter();
    queues
        .map(|queue| (queue.ring_references.as_slice(), queue.event_channel))
        .collect()
}

#[test]
fn a_front_end_of_one_page() {
    let keys = [
        ("ring-ref", "8"),
        ("event-channel", "15"),
        ("protocol", "x86_64-abi"),
    ];
    let front = read(&Features::default(), &keys).unwrap();
    assert_eq!(front.protocol, Protocol::X86_64);
    assert_eq!(queues(&front), [(&[8][..], 15)]);
    let front = read(&Features::default(), &keys[..2]).unwrap();
    assert_eq!(
        front.protocol,
        Protocol::X86_32,
        "absent on x86 means 32-bit"
    );
}

#[test]
fn a_ring_of_more_pages_by_either_spelling() {
    let mut keys = vec![("event-channel", "3"), ("ring-page-order", "1")];
    keys.extend([("ring-ref0", "10"), ("ring-ref1", "12")]);
    assert_eq!(
        queues(&read(&Features::default(), &keys).unwrap()),
        [(&[10, 12][..], 3)]
    );
    keys[1] = ("num-ring-pages", "2");
    assert_eq!(
        queues(&read(&Features::default(), &keys).unwrap()),
        [(&[10, 12][..], 3)]
    );
    // An order of 0 with either name of the one page.
    for name in ["ring-ref", "ring-ref0"] {
        let keys = [
            ("event-channel", "3"),
            ("ring-page-order", "0"),
            (name, "7"),
        ];
        assert_eq!(
            queues(&read(&Features::default(), &keys).unwrap()),
            [(&[7][..], 3)]
        );
    }
}

#[test]
fn queues_stand_in_folders_from_two_on() {
    let features = Features::new(2, 0, 0);
    let keys = [
        ("multi-queue-num-queues", "2"),
        ("queue-0/ring-ref", "5"),
        ("queue-0/event-channel", "6"),
        ("queue-1/ring-ref", "7"),
        ("queue-1/event-channel", "8"),
    ];
    let front = read(&features, &keys).unwrap();
    assert_eq!(queues(&front), [(&[5][..], 6), (&[7][..], 8)]);
    let keys = [
        ("multi-queue-num-queues", "1"),
        ("ring-ref", "5"),
        ("event-channel", "6"),
    ];
    assert_eq!(queues(&read(&features, &keys).unwrap()), [(&[5][..], 6)]);
}

#[test]
fn what_is_missing_or_no_number_is_named() {
    let features = Features::new(2, 1, 0);
    let missing = |keys: &[_], key: &str| {
        let error = read(&features, keys).unwrap_err();
        assert_eq!(
            error,
            KeyError::Missing {
                key: key.to_owned()
            }
            .into()
        );
    };
    missing(&[], "ring-ref");
    missing(&[("ring-ref", "1")], "event-channel");
    missing(&[("ring-page-order", "1"), ("ring-ref0", "1")], "ring-ref1");
    missing(
        &[("multi-queue-num-queues", "2"), ("ring-ref", "1")],
        "queue-0/ring-ref",
    );
    let number = |key: &str, value, (least, most)| {
        let keys = [("ring-ref", "1"), ("event-channel", "1")].into_iter();
        let keys: Vec<_> = keys
            .filter(|(other, _)| *other != key)
            .chain([(key, value)])
            .collect();
        let error = read(&features, &keys).unwrap_err();
        let key = key.to_owned();
        assert_eq!(error, KeyError::Number { key, least, most }.into());
    };
    number("ring-ref", "one", (0, u32::MAX));
    number("event-channel", "-1", (0, u32::MAX));
    number("ring-page-order", "2", (0, 1));
    number("num-ring-pages", "3", (1, 2));
    number("multi-queue-num-queues", "3", (1, 2));
    number("multi-queue-num-queues", "0", (1, 2));
    let keys = [("protocol", "arm-abi")];
    assert_eq!(read(&features, &keys), Err(ConnectError::Protocol));
    let error = read(&Features::default(), &[("num-ring-pages", "3")]).unwrap_err();
    assert_eq!(error, ConnectError::RingPages { pages: 3 });
}
