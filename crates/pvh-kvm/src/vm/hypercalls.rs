//! How hypercalls and accesses to the hypercall MSR leave the guest.

use std::io;

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use pvh_abi::cpuid::XEN_HYPERCALL_MSR;

/// How a guest's hypercalls become [`VmExit::Hypercall`].
///
/// With any but `None` the guest's reads and writes of the hypercall MSR, 0x4000_0000, become
/// [`VmExit::MsrRead`] and [`VmExit::MsrWrite`], and KVM leaves the registers of [`Caller`] at each exit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum HypercallTransport {
    /// Not at all.
    #[default]
    None,
    /// By OUT to a port, of any width, which is then no [`VmExit::PortOut`]; for hosts that have nothing better.
    Port {
        /// The port.
        port: u16,
    },
    /// By VMCALL or VMMCALL, whichever the host's processor has, where KVM supports Xen guests.
    Intercept,
}

/// Makes KVM hand over the guest's reads and writes of the hypercall MSR.
pub(super) fn filter_hypercall_msr(vm: &VmFd) -> io::Result<()> {
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    })?;
    let range = MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base: XEN_HYPERCALL_MSR,
        msr_count: 1,
        // One bit counts, but KVM reads a whole word.
        bitmap: &[0; size_of::<u64>()],
    };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range])?;
    Ok(())
}
