//! vCPUs: the states they may be started in, and the order of their lives.

mod context;
mod lifecycle;

pub(crate) use context::template;
pub use context::vcpu_context;
pub use lifecycle::vcpu_lifecycle;
