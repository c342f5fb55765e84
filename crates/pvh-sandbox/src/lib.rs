#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod filter;
mod kernel_log;
mod names;
mod privilege;
mod role;
mod rule;
mod rules;
mod sandbox;

pub use kernel_log::KernelLog;
pub use names::describe;
pub use privilege::{Files, LandlockSupport, Limits};
pub use role::Role;
pub use rule::{ArgTest, Rule, Verdict};
pub use sandbox::{Mode, Sandbox, SandboxError};
