//! The domain as a whole, by what a guest can do: registers in, registers out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "these are tests"
)]

mod areas;
mod back_ends;
mod boot;
mod budget;
mod busy;
mod console;
mod events;
mod grants;
mod hostile;
mod hvm;
mod lifecycle;
mod machine;
mod observe;
mod other;
mod recorded;
mod refresh;
mod reset;
mod sched;
mod store;
mod timers;
mod vcpu_info;
mod vcpus;
mod version;
mod xen_4_20;
