//! The primitives of `SharedVcpuSet`; its loom test has a module of the same name with loom's.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
