//! Telling KVM to hand over hypercalls.
// UNSAFETY: kvm-ioctls has no wrapper for KVM_XEN_HVM_CONFIG.
#![expect(unsafe_code, reason = "an ioctl without a wrapper")]

use std::io;

use kvm_bindings::{KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, KVMIO, kvm_xen_hvm_config};
use kvm_ioctls::VmFd;
use libc::c_ulong;
use pvh_abi::cpuid::XEN_HYPERCALL_MSR;
use vmm_sys_util::ioctl::{_IOC_WRITE, ioctl_expr, ioctl_with_ref};

/// Makes VMCALL and VMMCALL of the guest exits of their own.
pub(crate) fn intercept_hypercalls(vm: &VmFd) -> io::Result<()> {
    // SAFETY: `ioctl_with_ref` demands a request that takes a pointer to this type: the number encodes write
    // direction and the size of `kvm_xen_hvm_config`, and for a VM descriptor, which `VmFd` owns and keeps open,
    // it is KVM_XEN_HVM_CONFIG; any other kind of descriptor refuses it. The kernel only reads, so many
    // bytes, before the call returns, and the reference lives longer. The pointers inside are null, their lengths
    // 0, so that KVM follows none.
    let answer = unsafe { ioctl_with_ref(vm, REQUEST, &CONFIG) };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// KVM takes notice of hypercalls only where it knows their MSR. The accesses themselves are handed over before
/// KVM looks at them, see [`filter_hypercall_msr`](super::hypercalls::filter_hypercall_msr).
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
    fn the_request_is_that_of_the_kernel_header() {
        // _IOW(0xAE, 0x7a, struct kvm_xen_hvm_config), 56 bytes.
        assert_eq!(REQUEST, 0x4038_AE7A);
        assert_eq!((CONFIG.flags, CONFIG.msr), (2, 0x4000_0000));
    }
}
