#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod back_end;
mod change;
mod device;
mod keys;
mod state;

pub use back_end::{Action, Attempt, BackEnd};
pub use change::{Change, apply};
pub use device::Device;
pub use keys::{FrontKeys, KeyError};
pub use state::State;
