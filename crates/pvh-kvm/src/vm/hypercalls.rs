//! How hypercalls and accesses to the hypercall MSR become exits.

use std::io;

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use pvh_abi::cpuid::XEN_HYPERCALL_MSR;

/// How a guest's hypercalls become [`VmExit::Hypercall`](crate::VmExit::Hypercall).
///
/// With any transport except `None`, reads and writes of the hypercall MSR, 0x4000_0000, become
/// [`VmExit::MsrRead`](crate::VmExit::MsrRead) and [`VmExit::MsrWrite`](crate::VmExit::MsrWrite),
/// and KVM copies the registers of [`HypercallState`](crate::HypercallState) to the VMM at each
/// exit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum HypercallTransport {
    /// The guest makes no hypercalls.
    #[default]
    None,
    /// The guest executes OUT to a port, with any width. Such an OUT is not a
    /// [`VmExit::PortOut`](crate::VmExit::PortOut). For hosts that cannot intercept hypercalls.
    Port {
        /// The port.
        port: u16,
    },
    /// The guest executes VMCALL (Intel) or VMMCALL (AMD), and KVM intercepts it. Needs KVM's
    /// support for Xen guests.
    Intercept,
}

/// Makes KVM exit to the VMM when the guest reads or writes the hypercall MSR.
pub(crate) fn filter_hypercall_msr(vm: &VmFd) -> io::Result<()> {
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    })?;
    let range = MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base: XEN_HYPERCALL_MSR,
        msr_count: 1,
        // Only one bit is used, but KVM reads a whole word.
        bitmap: &[0; size_of::<u64>()],
    };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range])?;
    Ok(())
}
