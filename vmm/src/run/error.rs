//! Why a run fails before or while its guest runs.

use std::{fmt, io, path::PathBuf};

use pvh_domain::trace::RecordError;

use pvh_kvm::{KvmError, RamError, VcpuError, VmError};
use pvh_loader::{
    ImageError, commit::CommitError, module::ModuleError, plan::PlanError, stubs::StubError,
};
use pvh_memory::MemoryError;

use super::{blueprint::MAX_CPUS, outputs::NO_FILE};
use crate::{
    exit::Chain,
    host_memory,
    platform::{Obstacle, PlatformError, Reason},
    size::Rounded,
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
    #[error("{cpus} CPUs: a machine has 1 to {MAX_CPUS}")]
    CpuCount {
        /// How many were asked for.
        cpus: u32,
    },
    /// The Xen platform was asked for and cannot be had.
    #[error("{}: the Xen platform cannot be had", kernel.display())]
    Obstacle {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: Obstacle,
    },
    /// What the user asked for is the Xen platform's, and this machine has none.
    #[error("{option} is for the Xen platform: {}", PlainReason(*.reason))]
    NeedsXen {
        /// The option.
        option: &'static str,
        /// Why it has none; nothing if that was asked for.
        reason: Option<Reason>,
    },
    /// A file would be written over that the run reads, or writes for another option.
    #[error("{option} {}: the run has another use for that file", path.display())]
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
    #[error("{}: its hypercalls cannot be patched", kernel.display())]
    Stubs {
        /// The kernel.
        kernel: PathBuf,
        /// Why not.
        #[source]
        source: StubError,
    },
    /// The record cannot be begun.
    #[error("{}: the record cannot be begun", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// The trace cannot be begun.
    #[error("{}: the trace cannot be written", path.display())]
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
    #[error("{memory_bytes} bytes of memory leave no room beside the ACPI tables")]
    NoRoom {
        /// Size of guest RAM.
        memory_bytes: u64,
    },
    /// The tables could not be written.
    #[error("the ACPI tables cannot be written")]
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
    #[error("a vCPU thread has panicked: this is a fault of pvh-vmm")]
    Panicked,
    /// A file that guest memory is mapped from has become shorter.
    #[error("guest memory is lost: a file that it is mapped from has become shorter")]
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
                "{} of memory do not fit the guest-physical space of {address_bits} bits: at most {} do",
                Rounded(*size_bytes),
                Rounded(*limit_bytes)
            ),
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
            None => f.write_str("--platform none has none"),
        }
    }
}

/// Says what the host refuses.
pub(super) fn host(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Host { what, source }
}
