//! `memory_op`: how a guest asks about its memory and changes its layout, call by call as it makes
//! them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod add;
mod ask;
mod budget;
mod extents;
mod machine;
mod model;
