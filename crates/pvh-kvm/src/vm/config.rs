//! What a machine is to have.

use super::hypercalls::HypercallTransport;
use crate::{ApicIds, HypervisorLeaves};

/// What a machine is to have.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct VmConfig {
    /// How many vCPUs there will be, 1 or more.
    pub vcpus: u32,
    /// The interrupt controllers.
    pub interrupt_controllers: InterruptControllers,
    /// How APIC ids follow from vCPU indices.
    pub apic_ids: ApicIds,
    /// The CPUID leaves from 0x4000_0000 on.
    pub hypervisor: HypervisorLeaves,
    /// How hypercalls leave the guest.
    pub hypercalls: HypercallTransport,
}

impl VmConfig {
    /// Returns the machine of a guest that expects plain KVM: all interrupt controllers and the timer, APIC
    /// ids as indices, KVM's hypervisor leaves, no hypercalls.
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
    /// None: a halted vCPU exits, and there is no second vCPU, because none could be started.
    None,
    /// Two 8259 PICs, an I/O APIC at 0xFEC0_0000, and a local APIC a vCPU.
    Kernel,
    /// The same and an 8254 timer.
    KernelWithPit,
    /// A local APIC a vCPU and nothing else, as a Xen PVH domain has it: KVM's split irqchip.
    LocalApics,
}
