//! The handshake: states, nodes, and a front end that does anything.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod keys;
mod machine;
mod model;
mod nodes;
