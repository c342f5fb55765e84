#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod breakpoints;
mod connection;
mod gate;
#[cfg(feature = "kvm")]
mod kvm;
mod listen;
mod machine;
mod monitor;
mod registers;
mod serve;
mod target;
mod view;

pub use gate::{Commands, Cpu, Debuggee, Gate, Trap};
pub use listen::{Address, AddressError, BindError};
pub use machine::{
    Cause, Event, HARDWARE_TRAPS, HardwareTrap, Machine, MachineError, Motion, TrapAccess, Traps,
};
pub use serve::{Served, Server};
