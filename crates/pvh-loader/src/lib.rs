#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod image;

pub mod commit;
pub mod inspect;
pub mod layout;
pub mod module;
pub mod plan;
pub mod stubs;

pub use image::{Image, ImageError};
