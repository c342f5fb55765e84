//! Guest memory by linear address: the pointers of a hypercall are linear addresses.

mod fault;
mod paging;
mod tables;
mod trace;
mod view;
mod walk;

pub use fault::LinearFault;
pub use paging::{Access, LinearAddress, PagingMode, PagingPolicy, PagingState};
pub use trace::{WalkStep, WalkTrace};
pub use view::LinearMemory;
