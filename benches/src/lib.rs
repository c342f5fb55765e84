//! Shared by the benchmarks of the PVH crates: guests, other VMMs, measurements, reports.

pub mod compare;
pub mod criterion;
pub mod floor;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod report;
pub mod smaps;
pub mod standing;
pub mod stats;
pub mod turns;
