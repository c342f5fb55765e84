//! vCPUs: the states in which they may start, and their lifecycle.

mod context;
mod lifecycle;

pub(crate) use context::template;
pub use context::vcpu_context;
pub use lifecycle::vcpu_lifecycle;
