//! The configuration of a machine.

use super::hypercalls::HypercallTransport;
use crate::{ApicIds, HypervisorLeaves};

/// The configuration of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct VmConfig {
    /// The number of vCPUs, 1 or more.
    pub vcpus: u32,
    /// The interrupt controllers that KVM emulates.
    pub interrupt_controllers: InterruptControllers,
    /// How a vCPU's APIC id is computed from its index.
    pub apic_ids: ApicIds,
    /// The CPUID leaves from 0x4000_0000 on.
    pub hypervisor: HypervisorLeaves,
    /// How hypercalls leave the guest.
    pub hypercalls: HypercallTransport,
}

impl VmConfig {
    /// Returns the machine of a guest that expects plain KVM: all interrupt controllers and the
    /// timer, APIC ids equal to indices, KVM's hypervisor leaves, no hypercalls.
    #[must_use]
    pub const fn new(vcpus: u32) -> Self {
        Self {
            vcpus,
            interrupt_controllers: InterruptControllers::KernelWithPit,
            apic_ids: ApicIds::Index,
            hypervisor: HypervisorLeaves::Kvm,
            hypercalls: HypercallTransport::None,
        }
    }
}

/// Which interrupt controllers KVM emulates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InterruptControllers {
    /// None: a halted vCPU exits, and the machine has one vCPU, because nothing could start a
    /// second.
    None,
    /// Two 8259 PICs, an I/O APIC at 0xFEC0_0000, and one local APIC for each vCPU.
    Kernel,
    /// Those of `Kernel`, and an 8254 timer.
    KernelWithPit,
    /// Only one local APIC for each vCPU, as in a Xen PVH domain: KVM's split irqchip.
    LocalApics,
}
