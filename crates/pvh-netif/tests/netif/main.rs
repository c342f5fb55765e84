//! The back end of a network device against the front end of pvh-testkit.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "a test may panic"
)]

mod advisories;
mod connect;
mod guest;
mod model;
mod receive;
mod transmit;
