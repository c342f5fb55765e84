//! Why a run fails before or while its guest runs.

use std::{fmt, io, path::PathBuf};

use pvh_abi::ErrorLine;
use pvh_backends::{AttachError, ImageError as DiskImageError, StuckDevice};
use pvh_config::{DiskNamesError, NetworkError, Rounded, Size};
use pvh_domain::RecordError;
use pvh_gdb::BindError;
use pvh_kvm::{KvmError, RamError, TablesTooLarge, VcpuError, VmError};
use pvh_layout::{LayoutError, RamSizeError};
use pvh_loader::{
    ImageError, commit::CommitError, module::ModuleError, plan::PlanError, stubs::StubError,
};
use pvh_memory::MemoryError;
use pvh_sandbox::SandboxError;
use pvh_terminal::Printable;
use pvh_xen::PlatformError;

use super::{networks::NetworkRefusal, outputs::NO_FILE};
use crate::platform::{Obstacle, Reason};

/// Why a machine cannot be built or run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The kernel file cannot be used.
    #[error("{}", kernel.display())]
    Image {
        /// The file.
        kernel: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// A module cannot be used.
    #[error("{option} {}", path.display())]
    Module {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ModuleError,
    },
    /// A module from a pipe has more bytes than guest RAM.
    #[error(
        "{option} {}: more than {} came through the pipe, all of the guest's memory",
        path.display(),
        Rounded(*limit_bytes)
    )]
    LongModule {
        /// The option that named it.
        option: &'static str,
        /// The pipe.
        path: PathBuf,
        /// Size of guest RAM.
        limit_bytes: u64,
    },
    /// Kernel and modules do not fit this machine.
    #[error("{}", kernel.display())]
    Plan {
        /// The kernel.
        kernel: PathBuf,
        /// What does not fit.
        #[source]
        source: PlanError,
    },
    /// Kernel and modules could not be loaded into memory.
    #[error("{}", kernel.display())]
    Commit {
        /// The kernel.
        kernel: PathBuf,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// The disks cannot have names.
    #[error(transparent)]
    DiskNames(DiskNamesError),
    /// gdb cannot be listened for.
    #[error("--gdb")]
    Gdb(#[source] BindError),
    /// A disk cannot be used.
    #[error("{}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: DiskImageError,
    },
    /// The networks cannot have addresses.
    #[error(transparent)]
    Networks(NetworkError),
    /// A network cannot be used.
    #[error(transparent)]
    Network(NetworkRefusal),
    /// A device cannot be given to the guest.
    #[error(transparent)]
    AttachDevice(AttachError),
    /// The guest reboots while the host still works on a request of one of its disks.
    #[error("{0}, so the guest is not started again")]
    StuckDisk(StuckDevice),
    /// The Xen platform was requested and is not available.
    #[error("{}: the Xen platform is not available", kernel.display())]
    Obstacle {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: Obstacle,
    },
    /// An option needs the Xen platform, which this machine does not have.
    #[error("{option} needs the Xen platform: {}", PlainReason(*.reason))]
    NeedsXen {
        /// The option.
        option: &'static str,
        /// Why it does not have it; `None` if the user asked for `--platform none`.
        reason: Option<Reason>,
    },
    /// A name after `--log hypercalls=` selects nothing.
    #[error(
        "--log hypercalls: there is no call or kind of call named '{}'",
        Printable(word)
    )]
    LogWord {
        /// The name.
        word: String,
    },
    /// An output file is also read, or written for another option.
    #[error("{option} {}: this run reads or writes that file for another option", path.display())]
    Overwrites {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// An output path names no regular file.
    #[error("{option} {}: {NO_FILE}", path.display())]
    NoFile {
        /// The option.
        option: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The kernel's hypercall stubs cannot be patched.
    #[error("{}: cannot patch its hypercalls", kernel.display())]
    Stubs {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: StubError,
    },
    /// The record's file cannot be opened.
    #[error("{}: cannot write the record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// The trace's file cannot be opened.
    #[error("{}: cannot write the trace", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file of the console cannot be opened.
    #[error("{}: cannot write the console's output", path.display())]
    Console {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The Xen platform cannot be built.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Guest RAM of this size is not possible.
    #[error("{}", RamLine(.0))]
    Ram(RamSizeError),
    /// The machine cannot be laid out in guest memory for another reason.
    #[error(transparent)]
    Layout(LayoutError),
    /// The host does not give the guest's memory.
    #[error(transparent)]
    MapRam(RamError),
    /// KVM's tables for this much memory do not fit in the host.
    #[error(
        "--memory {} is too large: KVM may need {} for its own tables, and the host has {} available",
        Size::of(.0.memory_bytes),
        Rounded(.0.tables_bytes),
        Rounded(.0.available_bytes)
    )]
    HostMemory(TablesTooLarge),
    /// Guest RAM is too small for the ACPI tables.
    #[error("--memory {}: too small for the ACPI tables", Size::of(*memory_bytes))]
    NoRoom {
        /// Size of guest RAM.
        memory_bytes: u64,
    },
    /// The tables could not be written.
    #[error("cannot write the ACPI tables")]
    Acpi(#[source] MemoryError),
    /// KVM is not usable.
    #[error(transparent)]
    Kvm(KvmError),
    /// KVM cannot build the machine.
    #[error(transparent)]
    Vm(VmError),
    /// KVM cannot build a vCPU.
    #[error(transparent)]
    Vcpu(VcpuError),
    /// The host refuses something else.
    #[error("{what}")]
    Host {
        /// What it refuses.
        what: &'static str,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// The sandbox cannot be set up, so the guest is not started.
    #[error("cannot set up the sandbox")]
    Sandbox(#[source] SandboxError),
    /// The event loop failed.
    #[error("the event loop failed")]
    Events(#[source] event_manager::Error),
    /// A thread of this program panicked; the panic's message was printed.
    #[error("a vCPU thread panicked: this is a bug in pvh-vmm")]
    Panicked,
    /// A file that guest memory is mapped from was cut short.
    #[error("guest memory was lost: a file that is mapped into it was cut short")]
    LostMemory,
}

/// A RAM error with its causes, and with sizes as the user writes them.
struct RamLine<'a>(&'a RamSizeError);

impl fmt::Display for RamLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RamSizeError::TooLarge {
                size_bytes,
                limit_bytes,
                address_bits,
            } => write!(
                f,
                "--memory {} is too large: with {address_bits} address bits a guest has at most {}",
                Size::of(*size_bytes),
                Rounded(*limit_bytes)
            ),
            RamSizeError::NotWholePages { size_bytes } => write!(
                f,
                "--memory {} must be a multiple of 4K",
                Size::of(*size_bytes)
            ),
            RamSizeError::Empty => f.write_str("--memory 0: a guest needs memory"),
            other => write!(f, "{}", ErrorLine(other)),
        }
    }
}

/// Why a machine does not have the Xen platform.
struct PlainReason(Option<Reason>);

impl fmt::Display for PlainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(reason) => write!(f, "{reason}"),
            None => f.write_str("--platform none was asked for"),
        }
    }
}

/// Makes an error of what the host refused.
pub(super) fn host(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Host { what, source }
}
