//! The hypercall groups, served by the parts of the domain.

mod events;
mod grants;
mod hvm;
mod memory;
mod other;
mod sched;
mod vcpus;
mod version;
