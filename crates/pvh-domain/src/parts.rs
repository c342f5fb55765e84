//! The parts that a [`Domain`](crate::Domain) is made of.
//!
//! **Anything here may change in any release.** It is public for tests, fuzzing oracles and
//! benchmarks, which look at one part at a time; an embedder needs none of it.

pub mod console;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod memory;
pub(crate) mod ring;
pub mod runstate;
pub mod shared_info;
pub mod spot;
pub mod store_ring;
pub(crate) mod target;
pub mod time;
pub mod vcpu_info;
