//! What each hypercall is, in terms of the parts of the domain.

mod events;
mod grants;
mod hvm;
mod memory;
mod other;
mod sched;
mod vcpus;
mod version;
