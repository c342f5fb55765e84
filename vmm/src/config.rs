//! What is to be run, as plain data: the arguments once they are understood.

use std::path::PathBuf;

use pvh_start_info::Generation;

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct RunConfig {
    /// The kernel image; the built-in demo guest without one.
    pub(crate) kernel: Option<PathBuf>,
    /// The modules in order; an initial RAM disk is the first.
    pub(crate) modules: Vec<ModuleConfig>,
    /// The kernel's command line.
    pub(crate) cmdline: Vec<u8>,
    /// Size of guest RAM in bytes.
    pub(crate) memory_bytes: u64,
    /// Number of vCPUs.
    pub(crate) cpus: u32,
    /// Which start-of-day structure the guest gets.
    pub(crate) generation: Generation,
    /// What happens when the guest asks to reboot.
    pub(crate) on_reboot: OnReboot,
}

/// A module and its command line.
#[derive(Clone, Debug)]
pub(crate) struct ModuleConfig {
    /// The file.
    pub(crate) path: PathBuf,
    /// What the guest gets with it.
    pub(crate) cmdline: Option<Vec<u8>>,
}

/// What happens when the guest asks to reboot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnReboot {
    /// The machine is built anew.
    Rebuild,
    /// The run ends.
    End,
}
