//! Borrowing the descriptors of kvm-ioctls' types.
// UNSAFETY: those types offer a number only, and turning a number into a borrowed descriptor takes a proof.
#![expect(unsafe_code, reason = "kvm-ioctls' descriptors do not implement AsFd")]

use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_ioctls::{VcpuFd, VmFd};

/// Borrows the descriptor of a VM.
pub(crate) fn of_vm(vm: &VmFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor must be open for as long as the result: `VmFd` owns it, closes it only when it
    // ends, and is borrowed for that long.
    unsafe { BorrowedFd::borrow_raw(vm.as_raw_fd()) }
}

/// Borrows the descriptor of a vCPU.
pub(crate) fn of_vcpu(vcpu: &VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: as for a VM, with `VcpuFd` as the owner.
    unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}
