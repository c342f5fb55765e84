//! The store against its model, from random bytes.

use proptest::prelude::*;
use pvh_oracles::xenstore;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Replies, events of the guest and the host, and the tree are those of the model.
    #[test]
    fn any_requests_are_answered_as_the_model_says(mut bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
        // Whole requests; the corpus has streams of bytes for the ring.
        bytes[0] &= !1;
        xenstore(&bytes);
    }
}
