//! What is to be run, as plain data: the arguments once they are understood.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use pvh_loader::commit::Method;
use pvh_start_info::Generation;

use crate::{
    args::{
        BackingArgument, LoadArgument, LogArgument, PlatformArgument, RunArguments,
        StartInfoArgument,
    },
    timings,
};

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
    /// Which pages guest RAM is made of.
    pub(crate) memory_backing: BackingArgument,
    /// How kernel and modules get into memory.
    pub(crate) load: Method,
    /// How the steps of the start are told, if they are.
    pub(crate) timings: Option<timings::Style>,
    /// Where a trace of them is written.
    pub(crate) trace: Option<PathBuf>,
    /// Where unpacked kernels are kept.
    pub(crate) cache: CacheConfig,
    /// What the guest is to find around its CPUs.
    pub(crate) platform: PlatformArgument,
    /// Whether the kernel's hypercall stubs are patched.
    pub(crate) patch_hypercalls: bool,
    /// Where the calls of the Xen platform are recorded.
    pub(crate) record: Option<PathBuf>,
    /// Whether lines that the guest logs are printed.
    pub(crate) has_guest_log: bool,
    /// Whether nothing but console output and errors is printed.
    pub(crate) is_quiet: bool,
    /// What happens when the guest asks to reboot.
    pub(crate) on_reboot: OnReboot,
    /// The KVM device, /dev/kvm as a rule.
    pub(crate) kvm_device: PathBuf,
}

/// A module and its command line.
#[derive(Clone, Debug)]
pub(crate) struct ModuleConfig {
    /// The file.
    pub(crate) path: PathBuf,
    /// What the guest gets with it.
    pub(crate) cmdline: Option<Vec<u8>>,
}

/// Where unpacked kernels are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CacheConfig {
    /// In the user's cache folder, if there is one.
    OfUser,
    /// In this folder.
    At(PathBuf),
    /// Nowhere.
    None,
}

/// What happens when the guest asks to reboot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnReboot {
    /// The machine is built anew.
    Rebuild,
    /// The run ends.
    End,
}

impl RunConfig {
    /// Tells whether a kernel or module is read from standard input.
    pub(crate) fn reads_standard_input(&self) -> bool {
        let modules = self.modules.iter().map(|module| &module.path);
        let mut paths = self.kernel.iter().chain(modules);
        paths.any(|path| path == Path::new(STANDARD_INPUT))
    }
}

/// The file that a path of the command line names: `-` is standard input.
pub(crate) fn input_file(path: PathBuf) -> PathBuf {
    match path.as_os_str() == "-" {
        true => STANDARD_INPUT.into(),
        false => path,
    }
}

const STANDARD_INPUT: &str = "/dev/stdin";

impl From<RunArguments> for RunConfig {
    fn from(arguments: RunArguments) -> Self {
        let initrd = arguments.initrd.into_iter().map(|path| ModuleConfig {
            path,
            cmdline: None,
        });
        let modules = arguments.modules.into_iter().map(|module| ModuleConfig {
            path: module.path,
            cmdline: module.cmdline.map(OsString::into_vec),
        });
        Self {
            kernel: arguments.kernel.map(input_file),
            modules: initrd.chain(modules).collect(),
            cmdline: arguments.cmdline.into_vec(),
            memory_bytes: arguments.memory.bytes(),
            cpus: arguments.cpus,
            generation: match arguments.start_info {
                StartInfoArgument::Draft => Generation::Draft,
                StartInfoArgument::V0 => Generation::V0,
                StartInfoArgument::V1 => Generation::V1,
            },
            load: match arguments.load {
                LoadArgument::Map => Method::Map,
                LoadArgument::Copy => Method::Copy,
            },
            memory_backing: arguments.memory_backing,
            timings: arguments.timings,
            trace: arguments.trace,
            cache: match arguments.cache {
                None => CacheConfig::OfUser,
                Some(dir) if dir.as_os_str() == "none" => CacheConfig::None,
                Some(dir) => CacheConfig::At(dir),
            },
            platform: arguments.platform,
            patch_hypercalls: arguments.patch_hypercalls,
            record: arguments.record,
            has_guest_log: arguments.log == LogArgument::On && !arguments.quiet,
            is_quiet: arguments.quiet,
            kvm_device: arguments.kvm_device,
            on_reboot: if arguments.no_reboot {
                OnReboot::End
            } else {
                OnReboot::Rebuild
            },
        }
    }
}
