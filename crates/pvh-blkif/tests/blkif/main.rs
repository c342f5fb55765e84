//! The back end of a disk against a front end that writes its ring byte by byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod advisories;
mod connect;
mod guest;
mod keys;
mod model;
mod refused;
mod requests;

use pvh_blkif::Protocol;

/// Both layouts.
const PROTOCOLS: [Protocol; 2] = [Protocol::X86_64, Protocol::X86_32];
