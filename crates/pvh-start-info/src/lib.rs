#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod block;
mod build_error;
mod builder;
mod checks;
mod generation;
mod layout;
mod limits;
mod read_error;
mod reader;

pub use build_error::{BuildError, Part};
pub use builder::{Builder, MemmapRange, Module};
pub use generation::Generation;
pub use limits::{LINUX_CMDLINE_LIMIT, LINUX_MEMMAP_LIMIT, XEN_MODULE_CMDLINE_LIMIT};
pub use read_error::{ReadError, TableKind};
pub use reader::{MemmapRecord, ModuleRecord, StartInfo, Table, read, read_cmdline};
