//! The workspace's checks of itself: its dependency edges, the picture of them, and the heads of
//! its source files.
//!
//! The binaries are what `make deps`, `make picture` and `make lint` run.

#![forbid(unsafe_code)]

pub mod edges;
pub mod layout;
pub mod picture;
pub mod sources;
