//! A machine: its devices, its vCPU threads, and how it ends.

mod board;
mod gdb;
mod host;
mod threads;
mod vcpu;

pub(crate) use board::{Board, End};
pub(crate) use gdb::{GdbCommands, GuestUnderGdb, close_gate};
pub(crate) use host::MachineHost;
pub(crate) use threads::{BootVcpu, Stopper, Threads};
