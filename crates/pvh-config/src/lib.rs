#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![expect(
    clippy::exhaustive_enums,
    reason = "a program has to handle each value that its user can write"
)]

mod args;
mod disks;
pub mod exit;
mod file;
mod networks;
#[cfg(feature = "pages")]
pub mod pages;
mod run;
mod size;

pub use args::{
    BackingArgument, CacheArguments, CacheMode, Command, CommandLine, ConformArguments,
    ConsoleArgument, ConsoleArgumentError, CreateArguments, DemoArguments, DiskArgument,
    DiskArgumentError, FuzzArguments, InspectArguments, KVM_DEVICE, KeepArgument, LinkArgument,
    LoadArgument, LogArgument, LogArgumentError, ModuleArgument, NetArgument, NetArgumentError,
    OnCrash, PlatformArgument, ReportStyle, RunArguments, SHIM_CMDLINE, SandboxArgument,
    StartInfoArgument, TapArguments, TraceArguments, cpus::MAX_CPUS,
};
pub use disks::{DiskNamesError, disk_names};
pub use file::{ConfigFault, ConfigFile, ConfigFileError, Note};
pub use networks::{NetworkError, network_addresses};
pub use run::{CacheConfig, ModuleConfig, OnHalt, OnReboot, RunConfig, input_file, input_name};
pub use size::{Rounded, Size, SizeError};
