//! Any bytes as requests: no panic, and no way past the limits.
//!
//! The model of replies, events and the tree is the oracle `xenstore` of pvh-oracles.

use proptest::prelude::*;
use pvh_xenstore::Limits;

use crate::client::{GUEST, booted};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// No request panics or takes the guest over its limits, and all charges are given back.
    #[test]
    fn any_requests_stay_within_the_limits(requests in proptest::collection::vec(
        (
            0_u32..28,
            0_u32..6,
            prop_oneof![
                "(data|control|/|@releaseDomain|name|/local/domain/1/error|)(/[a-c]){0,3}\0(t|T|n1|r0|5|)\0?(r0\0)?",
                "\\PC{0,20}",
            ],
            prop_oneof![Just(0_usize), 1990..2030_usize],
        ),
        1..100,
    )) {
        let mut client = booted();
        let before = client.store.usage(GUEST).unwrap();
        let limits = Limits::default();
        for (kind, transaction, text, extra) in requests {
            let payload = [text.as_bytes(), &vec![b'x'; extra]].concat();
            let replies = client.all(kind, transaction, &payload);
            prop_assert!(replies.iter().all(|(_, payload)| payload.len() <= 4096));
            let usage = client.store.usage(GUEST).unwrap();
            prop_assert!(usage.nodes <= limits.nodes && usage.watches <= limits.watches + 1);
            prop_assert!(usage.transactions <= limits.transactions + 1);
            prop_assert!(usage.memory_bytes <= limits.memory_bytes);
        }
        client.ask(21, 0, b"\0").unwrap();
        for directory in ["data", "error", "control", "drivers", "feature", "attr", "device"] {
            client.store.remove(&format!("/local/domain/1/{directory}")).unwrap();
        }
        let after = client.store.usage(GUEST).unwrap();
        prop_assert_eq!((after.nodes, after.memory_bytes, after.watches), (0, 0, 0));
        prop_assert!(before.nodes > 0);
    }
}
