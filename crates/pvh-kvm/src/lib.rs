#![doc = include_str!("../README.md")]

mod cpuid;
pub mod fds;
mod host_cpu;
mod kvm;
mod memory;
mod refused_call;
mod sync;
mod tap;
mod vcpu;
mod vm;

pub use cpuid::{ApicIds, CpuidLeaf, CpuidPolicy, HypervisorLeaves, cpuid_for_vcpu};
pub use kvm::{Capabilities, Kvm, KvmError};
pub use memory::{
    CopyAhead, GuestRam, HugeCopy, IDENTITY_MAP_AT, KVM_PRIVATE_BYTES, LostPages, MAX_ADDED_FRAMES,
    Progress, RamError, ReadyPlan, TSS_AT, TablesTooLarge, TransferError, WriteAhead,
    check_host_memory,
};
pub use refused_call::{RefusedCall, Report, end_on_refused_calls};
pub use tap::{Tap, TapError, TapOffloads};
pub use vcpu::{
    Activity, CountersError, Crash, ExitData, Failure, GuestClock, GuestDebug, Halts,
    HypercallState, InternalError, KickError, Kicker, Registers, SystemEventKind, Vcpu,
    VcpuCounters, VcpuError, VmEntry, VmExit, kick_signal,
};
pub use vm::{HypercallTransport, InterruptControllers, Vm, VmConfig, VmError};
