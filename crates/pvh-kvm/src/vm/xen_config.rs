//! Makes KVM intercept hypercalls (`KVM_XEN_HVM_CONFIG`).
// UNSAFETY: kvm-ioctls has no wrapper for KVM_XEN_HVM_CONFIG.
#![expect(unsafe_code, reason = "an ioctl without a wrapper")]

use std::io;

use kvm_bindings::{KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, KVMIO, kvm_xen_hvm_config};
use kvm_ioctls::VmFd;
use libc::c_ulong;
use pvh_abi::cpuid::XEN_HYPERCALL_MSR;
use vmm_sys_util::ioctl::{_IOC_WRITE, ioctl_expr, ioctl_with_ref};

/// Makes KVM exit to the VMM when the guest executes VMCALL or VMMCALL.
pub(crate) fn intercept_hypercalls(vm: &VmFd) -> io::Result<()> {
    // SAFETY: `ioctl_with_ref` demands a request that takes a pointer to this type. The number
    // encodes write direction and the size of `kvm_xen_hvm_config`, and on a VM descriptor, which
    // `VmFd` owns and keeps open, it is KVM_XEN_HVM_CONFIG. The kernel only reads that many bytes,
    // before the call returns, and the reference lives longer. The pointers inside are null and
    // their lengths 0, so KVM follows none.
    let answer = unsafe { ioctl_with_ref(vm, REQUEST, &CONFIG) };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// KVM intercepts hypercalls only if it knows their MSR. It does not handle the MSR itself: the MSR
/// filter exits first, see [`filter_hypercall_msr`](super::hypercalls::filter_hypercall_msr).
const CONFIG: kvm_xen_hvm_config = kvm_xen_hvm_config {
    flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
    msr: XEN_HYPERCALL_MSR,
    blob_addr_32: 0,
    blob_addr_64: 0,
    blob_size_32: 0,
    blob_size_64: 0,
    pad2: [0; 30],
};

const REQUEST: c_ulong = ioctl_expr(_IOC_WRITE, KVMIO, 0x7A, 56);

const _: () = assert!(size_of::<kvm_xen_hvm_config>() == 56);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_that_of_the_kernel_header() {
        // _IOW(0xAE, 0x7a, struct kvm_xen_hvm_config), 56 bytes.
        assert_eq!(REQUEST, 0x4038_AE7A);
        assert_eq!((CONFIG.flags, CONFIG.msr), (2, 0x4000_0000));
    }
}
