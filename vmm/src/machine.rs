//! A machine from its parts to its end: memory, vCPU threads, and what stops them.

mod board;
mod host;
mod threads;
mod vcpu;

pub(crate) use board::{Board, End};
pub(crate) use host::MachineHost;
pub(crate) use threads::{BootVcpu, Stopper, Threads};
