//! Time as a guest reads it: pvclock, wallclock, runstate.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod pvclock;
mod runstate;
mod wallclock;
mod watched;
