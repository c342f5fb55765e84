//! Guest memory by linear address: what the pointers of a hypercall are.

mod fault;
mod paging;
mod tables;
mod view;
mod walk;

pub use fault::LinearFault;
pub use paging::{Access, LinearAddress, PagingMode, PagingPolicy, PagingState};
pub use view::LinearMemory;
