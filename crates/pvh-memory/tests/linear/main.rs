//! Linear addresses: each row of what Xen does with a hypercall's pointers, as a test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod copies;
mod guest;
mod hostile;
mod modes;
mod reference;
mod reserved;
mod rights;
