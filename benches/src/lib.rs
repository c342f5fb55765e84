//! What the benchmarks of the PVH crates have in common: guests, peers, and numbers.

pub mod guest;
pub mod kernel;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod stats;
