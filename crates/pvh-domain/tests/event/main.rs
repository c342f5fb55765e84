//! Event channels: every operation, both ABIs, and a guest that races with them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod fifo;
mod hostile;
mod joined;
mod lossless;
mod lossless_bits;
mod machine;
mod ops;
mod poll;
mod races;
mod scripted;
mod situations;
mod two_level;
