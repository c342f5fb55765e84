//! The store: its messages, limits, transactions, watches and host connections.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod any_requests;
mod boot;
mod client;
mod edges;
mod host;
mod host_bounds;
mod limits;
mod messages;
mod recorded;
mod transactions;
mod watches;
