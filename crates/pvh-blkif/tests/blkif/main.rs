//! The back end of a disk against the front end of pvh-testkit.
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

use pvh_testkit::blkif::Layout;

/// Both layouts.
const LAYOUTS: [Layout; 2] = [Layout::X86_64, Layout::X86_32];
