//! Why a run fails before or while its guest runs.

use std::{fmt, io, path::PathBuf};

use pvh_domain::trace::RecordError;

use pvh_kvm::{KvmError, RamError, VcpuError, VmError};
use pvh_loader::{
    ImageError, commit::CommitError, module::ModuleError, plan::PlanError, stubs::StubError,
};
use pvh_memory::MemoryError;
use pvh_xen::PlatformError;

use super::{blueprint::MAX_CPUS, outputs::NO_FILE};
use crate::{
    exit::Chain,
    host_memory,
    platform::{Obstacle, Reason},
    size::{Rounded, Size},
};

/// Why a machine could not be built or not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The kernel is not one.
    #[error("{}", kernel.display())]
    Image {
        /// The file.
        kernel: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// A module cannot be used.
    #[error("{}", path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ModuleError,
    },
    /// A module from a pipe has more bytes than guest RAM.
    #[error("{}: more than {} came through the pipe, all of the guest's memory", path.display(), Rounded(*limit_bytes))]
    LongModule {
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
    /// Kernel and modules could not be put into memory.
    #[error("{}", kernel.display())]
    Commit {
        /// The kernel.
        kernel: PathBuf,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// More vCPUs, or fewer, than a machine can have.
    #[error("--cpus {cpus} is out of range: a machine has 1 to {MAX_CPUS} CPUs")]
    CpuCount {
        /// How many were asked for.
        cpus: u32,
    },
    /// The Xen platform was asked for and cannot be had.
    #[error("{}: the Xen platform is not available", kernel.display())]
    Obstacle {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: Obstacle,
    },
    /// What the user asked for is the Xen platform's, and this machine has none.
    #[error("{option} needs the Xen platform: {}", PlainReason(*.reason))]
    NeedsXen {
        /// The option.
        option: &'static str,
        /// Why it has none; nothing if that was asked for.
        reason: Option<Reason>,
    },
    /// A file would be written over that the run reads, or writes for another option.
    #[error("{option} {}: this run reads or writes that file for another option", path.display())]
    Overwrites {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What would be written goes into something that is no file.
    #[error("{option} {}: {NO_FILE}", path.display())]
    NoFile {
        /// The option.
        option: &'static str,
        /// What it is.
        path: PathBuf,
    },
    /// The kernel's hypercall stubs cannot be told.
    #[error("{}: cannot patch its hypercalls", kernel.display())]
    Stubs {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: StubError,
    },
    /// The record cannot be begun.
    #[error("{}: cannot write the record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// The trace cannot be begun.
    #[error("{}: cannot write the trace", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The Xen platform cannot be built.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// There is no memory of that size.
    #[error("{}", RamLine(.0))]
    Ram(RamError),
    /// So much memory that KVM's tables do not fit into the host.
    #[error(transparent)]
    HostMemory(#[from] host_memory::TooLarge),
    /// So little memory that nothing is left beside the ACPI tables.
    #[error("--memory {}: too small for the ACPI tables", Size::of(*memory_bytes))]
    NoRoom {
        /// Size of guest RAM.
        memory_bytes: u64,
    },
    /// The tables could not be written.
    #[error("cannot write the ACPI tables")]
    Acpi(#[source] MemoryError),
    /// There is no usable KVM.
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
    /// The event loop failed.
    #[error("the event loop failed")]
    Events(#[source] event_manager::Error),
    /// A thread of this program panicked, which it said when it did.
    #[error("a vCPU thread panicked: this is a bug in pvh-vmm")]
    Panicked,
    /// A file that guest memory is mapped from has become shorter.
    #[error("guest memory was lost: a file that is mapped into it was cut short")]
    LostMemory,
}

/// Why there is no such memory, and what caused it, with sizes that people read.
struct RamLine<'a>(&'a RamError);

impl fmt::Display for RamLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RamError::TooLarge {
                size_bytes,
                limit_bytes,
                address_bits,
            } => write!(
                f,
                "--memory {} is too large: with {address_bits} address bits a guest has at most {}",
                Size::of(*size_bytes),
                Rounded(*limit_bytes)
            ),
            RamError::NotWholePages { size_bytes } => write!(
                f,
                "--memory {} must be a multiple of 4K",
                Size::of(*size_bytes)
            ),
            RamError::Empty => f.write_str("--memory 0: a guest needs memory"),
            other => write!(f, "{}", Chain(other)),
        }
    }
}

/// Why a machine has no Xen platform.
struct PlainReason(Option<Reason>);

impl fmt::Display for PlainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(reason) => write!(f, "{reason}"),
            None => f.write_str("--platform none was asked for"),
        }
    }
}

/// Says what the host refuses.
pub(super) fn host(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Host { what, source }
}
