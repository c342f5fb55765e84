#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "cache")]
pub mod cache;
pub mod changed;
pub mod commit;
pub mod image;
pub mod inspect;
mod layout;
pub mod linux_cmdline;
pub mod module;
pub mod plan;
pub mod stubs;

pub use commit::Method;
pub use image::{Image, ImageError};
pub use module::ModuleSource;
pub use plan::{Boot, Plan};
