//! The configuration of a run: the arguments as plain data.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use pvh_gdb::Address;
use pvh_hypercall::XenVersion;
use pvh_start_info::Generation;

use crate::args::{
    BackingArgument, ConsoleArgument, DiskArgument, LoadArgument, LogArgument, ModuleArgument,
    NetArgument, OnCrash, PlatformArgument, ReportStyle, RunArguments, SandboxArgument,
    StartInfoArgument,
};

/// One machine, and how pvh-vmm runs it.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The kernel image; without it, the built-in demo guest.
    pub kernel: Option<PathBuf>,
    /// The modules, in order; an initial RAM disk is the first.
    pub modules: Vec<ModuleConfig>,
    /// The disks, in order.
    pub disks: Vec<DiskArgument>,
    /// The network devices, in order.
    pub networks: Vec<NetArgument>,
    /// The kernel's command line.
    pub cmdline: Vec<u8>,
    /// Where the guest's console is.
    pub console: ConsoleArgument,
    /// Size of guest RAM in bytes.
    pub memory_bytes: u64,
    /// Number of vCPUs.
    pub cpus: u32,
    /// The version of the start-of-day structure.
    pub generation: Generation,
    /// The size of the host pages that guest RAM is made of.
    pub memory_backing: BackingArgument,
    /// How kernel and modules get into guest memory.
    pub load: LoadArgument,
    /// The format of the report on the steps of the start, if one is wanted.
    pub timings: Option<ReportStyle>,
    /// The format of the report on the exits of the vCPUs, if one is wanted.
    pub exits: Option<ReportStyle>,
    /// Where gdb connects, if the guest is debugged.
    pub gdb: Option<Address>,
    /// The file for a core of a guest that crashes.
    pub dump_on_crash: Option<PathBuf>,
    /// Whether the guest executes one instruction at a time, so that the registers before a triple
    /// fault are known.
    pub debug_faults: bool,
    /// The file for a trace of the steps of the start.
    pub trace: Option<PathBuf>,
    /// The cache of unpacked kernels.
    pub cache: CacheConfig,
    /// The platform that was asked for.
    pub platform: PlatformArgument,
    /// The Xen whose answers the guest gets.
    pub xen_version: XenVersion,
    /// Whether to patch the kernel's hypercall stubs.
    pub patch_hypercalls: bool,
    /// The file for a record of the Xen platform's calls.
    pub record: Option<PathBuf>,
    /// Whether lines that the guest logs are printed.
    pub has_guest_log: bool,
    /// The words that select the hypercalls and events to print while the guest runs: all, if it is
    /// empty; none, without it.
    pub hypercall_log: Option<Vec<String>>,
    /// Whether nothing but console output and errors is printed.
    pub is_quiet: bool,
    /// What happens when the guest asks to reboot.
    pub on_reboot: OnReboot,
    /// What an early triple fault means.
    pub on_crash: OnCrash,
    /// What happens when every vCPU of a plain machine has halted for good.
    pub on_halt: OnHalt,
    /// The KVM device, usually /dev/kvm.
    pub kvm_device: PathBuf,
    /// What the sandbox does.
    pub sandbox: SandboxArgument,
}

/// A module and its command line.
#[derive(Clone, Debug)]
pub struct ModuleConfig {
    /// The option that named it.
    pub option: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The module's command line.
    pub cmdline: Option<Vec<u8>>,
}

/// The cache of unpacked kernels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CacheConfig {
    /// In the user's cache folder, if the user has one.
    OfUser,
    /// In this folder.
    At(PathBuf),
    /// No cache.
    None,
}

/// What happens when the guest asks to reboot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnReboot {
    /// A new machine is built.
    Rebuild,
    /// The run ends.
    End,
}

/// What happens when every vCPU of a plain machine has halted for good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnHalt {
    /// One line says so; a key on a terminal ends the run.
    Wait,
    /// The run ends.
    Exit,
}

impl RunConfig {
    /// Tells whether a kernel or module is read from standard input.
    #[must_use]
    pub fn reads_standard_input(&self) -> bool {
        let modules = self.modules.iter().map(|module| &module.path);
        let mut paths = self.kernel.iter().chain(modules);
        paths.any(|path| path == Path::new(STANDARD_INPUT))
    }
}

/// The file that a path of the command line names: `-` is standard input.
#[must_use]
pub fn input_file(path: PathBuf) -> PathBuf {
    match path.as_os_str() == "-" {
        true => STANDARD_INPUT.into(),
        false => path,
    }
}

/// The name of an input file in messages.
#[must_use]
pub fn input_name(path: &Path) -> &Path {
    match path == Path::new(STANDARD_INPUT) {
        true => Path::new("standard input"),
        false => path,
    }
}

const STANDARD_INPUT: &str = "/dev/stdin";

/// Makes the shim the kernel: the shim takes its guest's kernel, with its command line, as the first
/// module, and the initial RAM disk as the second.
fn under_shim(mut arguments: RunArguments) -> RunArguments {
    if let (true, Some(shim)) = (arguments.pv, arguments.shim.take()) {
        let initrd = arguments.initrd.take().map(|path| ModuleArgument {
            path,
            cmdline: None,
        });
        let kernel = arguments.kernel.replace(shim).map(|path| ModuleArgument {
            path: input_file(path),
            cmdline: Some(arguments.cmdline),
        });
        let modules = kernel.into_iter().chain(initrd).chain(arguments.modules);
        arguments.modules = modules.collect();
        arguments.cmdline = arguments.shim_cmdline.clone();
        arguments.platform = PlatformArgument::Xen;
    }
    arguments
}

impl From<RunArguments> for RunConfig {
    fn from(arguments: RunArguments) -> Self {
        let arguments = under_shim(arguments);
        let initrd = arguments.initrd.into_iter().map(|path| ModuleConfig {
            option: "--initrd",
            path,
            cmdline: None,
        });
        let modules = arguments.modules.into_iter().map(|module| ModuleConfig {
            option: "--module",
            path: module.path,
            cmdline: module.cmdline.map(OsString::into_vec),
        });
        Self {
            kernel: arguments.kernel.map(input_file),
            modules: initrd.chain(modules).collect(),
            disks: arguments.disks,
            networks: arguments.networks,
            cmdline: arguments.cmdline.into_vec(),
            console: arguments.console,
            memory_bytes: arguments.memory.bytes(),
            cpus: arguments.cpus,
            generation: match arguments.start_info {
                StartInfoArgument::Draft => Generation::Draft,
                StartInfoArgument::V0 => Generation::V0,
                StartInfoArgument::V1 => Generation::V1,
            },
            load: arguments.load,
            memory_backing: arguments.memory_backing,
            timings: arguments.timings,
            gdb: arguments.gdb,
            dump_on_crash: arguments.dump_on_crash,
            debug_faults: arguments.debug_faults,
            exits: arguments.exits,
            trace: arguments.trace,
            cache: match arguments.cache {
                None => CacheConfig::OfUser,
                Some(dir) if dir.as_os_str() == "none" => CacheConfig::None,
                Some(dir) => CacheConfig::At(dir),
            },
            platform: arguments.platform,
            xen_version: arguments.xen_version,
            patch_hypercalls: arguments.patch_hypercalls,
            record: arguments.record,
            has_guest_log: LogArgument::has_guest_lines(&arguments.log) && !arguments.quiet,
            hypercall_log: LogArgument::hypercalls(&arguments.log),
            is_quiet: arguments.quiet,
            kvm_device: arguments.kvm_device,
            sandbox: arguments.sandbox,
            on_crash: arguments.on_crash,
            on_halt: if arguments.exit_on_halt {
                OnHalt::Exit
            } else {
                OnHalt::Wait
            },
            on_reboot: if arguments.no_reboot {
                OnReboot::End
            } else {
                OnReboot::Rebuild
            },
        }
    }
}
