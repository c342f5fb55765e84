//! What a Xen guest needs of KVM, for a program that has its own descriptors.
//!
//! [`Vm`](crate::Vm) and [`Vcpu`](crate::Vcpu) keep their descriptors to themselves. A hypervisor
//! that has a `VmFd` and `VcpuFd`s of kvm-ioctls calls these functions instead. Each is one to three
//! ioctls, fails with the host's error, and keeps nothing.

use std::io;

pub use kvm_ioctls::{VcpuFd, VmFd};
use pvh_entry::EntryState;

use crate::{Registers, vm::hypercalls, vm::xen_config};

/// Makes KVM exit to the program when the guest executes VMCALL or VMMCALL: KVM_XEN_HVM_CONFIG.
///
/// Call it before the first vCPU runs. The exit is KVM_EXIT_XEN.
///
/// # Errors
///
/// The host's error; EINVAL if this KVM cannot intercept hypercalls.
pub fn intercept_hypercalls(vm: &VmFd) -> io::Result<()> {
    xen_config::intercept_hypercalls(vm)
}

/// Makes KVM exit to the program when the guest reads or writes the hypercall MSR, 0x4000_0000.
///
/// This sets the VM's MSR filter, of which there is one, and enables exits for it. The exits are
/// KVM_EXIT_X86_RDMSR and KVM_EXIT_X86_WRMSR.
///
/// # Errors
///
/// The host's error, for example if this KVM has no MSR filter.
pub fn filter_hypercall_msr(vm: &VmFd) -> io::Result<()> {
    hypercalls::filter_hypercall_msr(vm)
}

/// Sets the registers of a stopped vCPU to `state`.
///
/// FPU, MSRs and the local APIC keep their values: set the MSRs of
/// [`EntryState::to_kvm_msrs`] as well.
///
/// # Errors
///
/// The host's error; earlier registers are then set.
pub fn set_entry(vcpu: &VcpuFd, state: &EntryState) -> io::Result<()> {
    let base = vcpu.get_sregs()?;
    vcpu.set_sregs(&state.to_kvm_sregs(&base))?;
    vcpu.set_regs(&state.to_kvm_regs())?;
    vcpu.set_debug_regs(&state.to_kvm_debugregs())?;
    Ok(())
}

/// Reads the registers of a stopped vCPU.
///
/// # Errors
///
/// The host's error.
pub fn registers(vcpu: &VcpuFd) -> io::Result<Registers> {
    let (regs, sregs) = (vcpu.get_regs()?, vcpu.get_sregs()?);
    Ok(Registers::new(&regs, &sregs, &vcpu.get_debug_regs()?))
}
