//! A virtual machine: its memory, its interrupt controllers, its vCPUs.

use std::sync::{Arc, Mutex};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_PIT_SPEAKER_DUMMY, kvm_enable_cap, kvm_msi, kvm_pit_config,
};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    CpuidPolicy, GuestRam, Kvm, Vcpu, VcpuError,
    memory::{
        reserved::{IDENTITY_MAP_AT, TSS_AT},
        vm_with_ram::VmWithRam,
    },
    vcpu::kick,
};
use error::host;
use limits::check_limits;
use shared::VmShared;

mod config;
mod error;
mod hypercalls;
pub(crate) mod limits;
pub(crate) mod shared;
mod xen_config;

pub use config::{InterruptControllers, VmConfig};
pub use error::VmError;
pub use hypercalls::HypercallTransport;

/// A virtual machine.
///
/// It is shared by the threads that run its vCPUs and its devices; it ends with the last [`Vcpu`] and `Vm`
/// of it.
///
/// It hands out no descriptor: only this crate makes ioctls on the machine, so that nobody else changes its
/// memory slots or makes a vCPU that outlives its RAM.
#[derive(Debug)]
pub struct Vm {
    pub(crate) shared: Arc<VmShared>,
}

impl Vm {
    /// Builds a machine around `ram`; its vCPUs are still to be made.
    ///
    /// # Errors
    ///
    /// [`VmError`]: what was asked for is beyond this host's limits, or a call failed.
    pub fn new(kvm: &Kvm, config: &VmConfig, ram: Arc<GuestRam>) -> Result<Self, VmError> {
        check_limits(kvm, config, &ram)?;
        kick::install_handler().map_err(host("installing the handler of the kick signal"))?;
        let fd = kvm.fd().create_vm().map_err(host("KVM_CREATE_VM"))?;
        fd.set_identity_map_address(IDENTITY_MAP_AT.0)
            .map_err(host("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(usize::try_from(TSS_AT.0).unwrap_or(usize::MAX))
            .map_err(host("KVM_SET_TSS_ADDR"))?;
        let run_len = fd.run_size();
        // Before the interrupt controllers: after them, each slot costs a grace period of some milliseconds.
        let vm = VmWithRam::new(fd, ram).map_err(host("KVM_SET_USER_MEMORY_REGION"))?;
        create_interrupt_controllers(&vm, config.interrupt_controllers)?;
        if config.hypercalls == HypercallTransport::Intercept {
            let intercepted = xen_config::intercept_hypercalls(vm.fd());
            intercepted.map_err(host("KVM_XEN_HVM_CONFIG"))?;
        }
        let has_local_apic = config.interrupt_controllers != InterruptControllers::None;
        let mut policy = CpuidPolicy::new(config.vcpus);
        policy.apic_ids = config.apic_ids;
        policy.has_local_apic = has_local_apic;
        policy.has_tsc_deadline = has_local_apic && kvm.capabilities().has_tsc_deadline;
        policy.hypervisor = config.hypervisor.clone();
        let shared = VmShared {
            vm,
            host: Arc::clone(kvm.host()),
            policy,
            run_len,
            hypercalls: config.hypercalls,
            is_msr_filtered: Mutex::new(config.hypercalls == HypercallTransport::None),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes vCPU number `index`, in the state after reset. What the machine gives it besides, CPUID leaves, MTRRs as the ABI
    /// wants them and FPU, it gets with its entry state or when it first runs.
    ///
    /// vCPU 0 waits for its entry state ([`Vcpu::set_entry`]); the others, once run, wait in the kernel until
    /// the guest starts them by INIT and SIPI. Make all of them before the first one runs.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`] beyond the machine's number of vCPUs, [`VcpuError::RamTooHigh`] if it could not address all
    /// of RAM, [`VcpuError::Host`] if a call fails, such
    /// as for an index that has its vCPU already.
    pub fn create_vcpu(&self, index: u32) -> Result<Vcpu, VcpuError> {
        Vcpu::new(&self.shared, index)
    }

    /// Returns the machine's RAM.
    #[must_use]
    pub fn ram(&self) -> &Arc<GuestRam> {
        self.shared.vm.ram()
    }

    /// Sets the level of an interrupt line, an input of the I/O APIC (and of the PICs below 16).
    ///
    /// # Errors
    ///
    /// [`VmError::Host`] without in-kernel interrupt controllers or for a line that does not exist.
    pub fn set_irq_line(&self, gsi: u32, is_high: bool) -> Result<(), VmError> {
        let fd = self.shared.vm.fd();
        fd.set_irq_line(gsi, is_high).map_err(host("KVM_IRQ_LINE"))
    }

    /// Sends an edge interrupt to the local APIC of vCPU `index`, from any thread. Tells whether it was taken: `false` for
    /// an APIC that the guest has disabled.
    ///
    /// # Errors
    ///
    /// [`VmError::Host`] without in-kernel local APICs; [`VmError::ApicId`] for a vCPU whose APIC id is no byte.
    pub fn send_interrupt(&self, index: u32, vector: u8) -> Result<bool, VmError> {
        let apic_id = self.shared.policy.apic_ids.apic_id(index);
        let apic_id = apic_id.filter(|&id| id < BROADCAST);
        let apic_id = apic_id.ok_or(VmError::ApicId { index })?;
        let msi = kvm_msi {
            // Physical destination, fixed delivery, edge.
            address_lo: MSI_ADDRESS | (apic_id << 12),
            data: vector.into(),
            ..kvm_msi::default()
        };
        match self.shared.vm.fd().signal_msi(msi) {
            Ok(count) => Ok(count > 0),
            // No APIC answered: KVM's -1 reads as an error number.
            Err(error) if error.errno() == libc::EPERM => Ok(false),
            Err(error) => Err(host("KVM_SIGNAL_MSI")(error)),
        }
    }

    /// Raises and lowers interrupt line `gsi` whenever `event` is written, without leaving the kernel.
    ///
    /// # Errors
    ///
    /// As [`Vm::set_irq_line`].
    pub fn register_irqfd(&self, event: &EventFd, gsi: u32) -> Result<(), VmError> {
        let fd = self.shared.vm.fd();
        fd.register_irqfd(event, gsi).map_err(host("KVM_IRQFD"))
    }
}

fn create_interrupt_controllers(
    vm: &VmWithRam,
    controllers: InterruptControllers,
) -> Result<(), VmError> {
    if controllers == InterruptControllers::None {
        return Ok(());
    }
    if controllers == InterruptControllers::LocalApics {
        let split = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            ..kvm_enable_cap::default()
        };
        return vm
            .fd()
            .enable_cap(&split)
            .map_err(host("KVM_CAP_SPLIT_IRQCHIP"));
    }
    vm.fd()
        .create_irq_chip()
        .map_err(host("KVM_CREATE_IRQCHIP"))?;
    if controllers == InterruptControllers::KernelWithPit {
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..kvm_pit_config::default()
        };
        vm.fd().create_pit2(pit).map_err(host("KVM_CREATE_PIT2"))?;
    }
    Ok(())
}

/// Where interrupt messages go; bits 12 to 19 are the destination.
const MSI_ADDRESS: u32 = 0xFEE0_0000;

/// The destination that is every APIC.
const BROADCAST: u32 = 0xFF;
