//! Every hypercall as a guest makes it: registers and memory in, result and memory out.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop"
)]

mod any;
mod budget;
mod domain;
mod events_hvm;
mod grants;
mod lists;
mod memory_grants;
mod refused;
mod vcpus;
mod version_sched;
