//! The back ends against their models, from random bytes.

use proptest::prelude::*;
use pvh_oracles::{blkif, netif, xenbus};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Requests are judged, answered and forgotten as the model says.
    #[test]
    fn a_disk_does_what_the_model_says(bytes in proptest::collection::vec(any::<u8>(), 1..1500)) {
        blkif(&bytes);
    }

    /// Packets are judged, answered and delivered as the model says.
    #[test]
    fn a_network_device_does_what_the_model_says(bytes in proptest::collection::vec(any::<u8>(), 1..1500)) {
        netif(&bytes);
    }

    /// The handshake takes the model's steps.
    #[test]
    fn a_handshake_takes_the_steps_of_the_model(bytes in proptest::collection::vec(any::<u8>(), 1..500)) {
        xenbus(&bytes);
    }
}
