#![doc = include_str!("../README.md")]

mod cpuid;
mod host_cpu;
mod kvm;
mod memory;
mod vcpu;
mod vm;

pub use cpuid::{ApicIds, CpuidLeaf, CpuidPolicy, HypervisorLeaves, cpuid_for_vcpu};
pub use kvm::{Capabilities, Kvm, KvmError};
pub use memory::{GuestRam, LostPages, MAX_ADDED_FRAMES, Progress, RamError, WriteAhead};
pub use vcpu::{
    Activity, Caller, Crash, ExitData, Failure, GuestClock, HypercallTransport, InternalError,
    KickError, Kicker, Registers, SystemEventKind, Vcpu, VcpuError, VmEntry, VmExit, kick_signal,
};
pub use vm::{
    IDENTITY_MAP_AT, InterruptControllers, KVM_PRIVATE_BYTES, TSS_AT, Vm, VmConfig, VmError,
};
