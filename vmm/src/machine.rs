//! A machine: its devices, its vCPU threads, and how it ends.

mod board;
mod host;
mod threads;
mod vcpu;

pub(crate) use board::{Board, End};
pub(crate) use host::MachineHost;
pub(crate) use threads::{BootVcpu, Stopper, Threads};
