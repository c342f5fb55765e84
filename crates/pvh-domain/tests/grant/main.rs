//! The grant table: its frames, its entries, and what each operation of `grant_table_op` answers.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod copy;
mod host;
mod table;
