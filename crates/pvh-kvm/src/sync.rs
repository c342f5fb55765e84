//! The lock of the kick's handshake; its loom test has a module of the same name with loom's.

pub(crate) use std::sync::{Mutex, MutexGuard};
