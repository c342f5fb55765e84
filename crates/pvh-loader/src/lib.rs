#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod image;

mod bzimage;
mod codec;
pub mod commit;
pub mod inspect;
pub mod layout;
pub mod plan;
mod source;
pub mod stubs;

pub use image::{Image, ImageError};
