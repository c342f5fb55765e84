//! The workspace's checks of itself: its dependency edges, the picture of them, the heads of its
//! source files, its packages, and the tests that its security pages name; and its bill of materials.
//!
//! The binaries are what `make deps`, `make picture` and `make lint` run.

#![forbid(unsafe_code)]

pub mod api;
pub mod edges;
pub mod layout;
pub mod packages;
pub mod picture;
pub mod promises;
pub mod readme;
pub mod sbom;
pub mod sources;

/// Returns an error and its causes as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
