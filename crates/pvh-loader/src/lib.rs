//! Loads kernels for the x86/HVM direct boot ABI: opens and unpacks an image, plans, then commits.
#![forbid(unsafe_code)]

pub mod image;

mod bzimage;
mod codec;
pub mod commit;
pub mod inspect;
pub mod layout;
pub mod plan;
mod source;

pub use image::{Image, ImageError};
