#![doc = include_str!("../README.md")]

mod cpuid;
mod decode;
mod exit;
mod frames;
mod host_cpu;
mod hypercall;
mod kick;
mod kvm;
mod layout;
mod lost_page;
mod map_file;
mod memory_slots;
mod pending;
mod ram;
mod registers;
mod run_page;
mod vcpu;
mod vm;
mod write_ahead;
mod xen_config;

pub use cpuid::{ApicIds, CpuidLeaf, CpuidPolicy, HypervisorLeaves, cpuid_for_vcpu};
pub use exit::{ExitData, InternalError, SystemEventKind, VmEntry, VmExit};
pub use frames::MAX_ADDED_FRAMES;
pub use hypercall::{Caller, HypercallTransport};
pub use kick::{KickError, Kicker, kick_signal};
pub use kvm::{Capabilities, Kvm, KvmError};
pub use layout::{LOWMEM_END, RamError, RamRange, ram_layout};
pub use lost_page::LostPages;
pub use ram::GuestRam;
pub use registers::Registers;
pub use vcpu::{Activity, GuestClock, Vcpu, VcpuError};
pub use vm::{
    IDENTITY_MAP_AT, InterruptControllers, KVM_PRIVATE_BYTES, TSS_AT, Vm, VmConfig, VmError,
};
pub use write_ahead::{Progress, WriteAhead};
