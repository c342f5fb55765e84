#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod back;
mod error;
mod grant;
mod pages;

pub use back::{BackRing, Slot};
pub use error::{AttachError, RingError};
pub use grant::{Access, GrantedPage, Grants};
pub use pages::{MAX_PAGES, RingPages};
