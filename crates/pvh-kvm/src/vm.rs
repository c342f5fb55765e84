//! A virtual machine: its RAM, its interrupt controllers, its vCPUs.

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
pub(crate) mod hypercalls;
pub(crate) mod limits;
pub(crate) mod shared;
pub(crate) mod xen_config;

pub use config::{InterruptControllers, VmConfig};
pub use error::VmError;
pub use hypercalls::HypercallTransport;

/// A virtual machine.
///
/// The threads that run its vCPUs and its devices share it. The machine ends when its `Vm` and the
/// last [`Vcpu`] are dropped.
///
/// It hands out no descriptor: only this crate makes ioctls on the machine, so no other code can
/// change its memory slots or create a vCPU that outlives its RAM.
#[derive(Debug)]
pub struct Vm {
    pub(crate) shared: Arc<VmShared>,
}

impl Vm {
    /// Creates a machine with `ram` and without vCPUs.
    ///
    /// # Errors
    ///
    /// [`VmError`], if the configuration exceeds this host's limits or a call fails.
    pub fn new(kvm: &Kvm, config: &VmConfig, ram: Arc<GuestRam>) -> Result<Self, VmError> {
        check_limits(kvm, config, &ram)?;
        kick::install_handler().map_err(host("installing the handler of the kick signal"))?;
        let fd = kvm.fd().create_vm().map_err(host("KVM_CREATE_VM"))?;
        fd.set_identity_map_address(IDENTITY_MAP_AT.0)
            .map_err(host("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(usize::try_from(TSS_AT.0).unwrap_or(usize::MAX))
            .map_err(host("KVM_SET_TSS_ADDR"))?;
        let run_len = fd.run_size();
        // Before the interrupt controllers: with them, KVM waits some milliseconds for each slot.
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

    /// Creates vCPU number `index`, in the state after reset. CPUID leaves, MTRRs and FPU are set
    /// later: with its entry state, or when it first runs.
    ///
    /// vCPU 0 needs an entry state ([`Vcpu::set_entry`]). Any other vCPU, once run, waits in the
    /// kernel until the guest starts it by INIT and SIPI. Create all vCPUs before the first one
    /// runs.
    ///
    /// # Errors
    ///
    /// [`VcpuError::NoSuchVcpu`] if the machine has fewer vCPUs, [`VcpuError::RamTooHigh`] if the
    /// vCPU cannot address all of RAM, [`VcpuError::Host`] if a call fails, for example because the
    /// vCPU exists already.
    pub fn create_vcpu(&self, index: u32) -> Result<Vcpu, VcpuError> {
        Vcpu::new(&self.shared, index)
    }

    /// Returns the machine's RAM.
    #[must_use]
    pub fn ram(&self) -> &Arc<GuestRam> {
        self.shared.vm.ram()
    }

    /// Sets the level of interrupt line `gsi`, an input of the I/O APIC and, below 16, of the PICs.
    ///
    /// # Errors
    ///
    /// [`VmError::Host`] without in-kernel interrupt controllers, or for a line that does not
    /// exist.
    pub fn set_irq_line(&self, gsi: u32, is_high: bool) -> Result<(), VmError> {
        let fd = self.shared.vm.fd();
        fd.set_irq_line(gsi, is_high).map_err(host("KVM_IRQ_LINE"))
    }

    /// Sends an edge-triggered interrupt to the local APIC of vCPU `index`, from any thread.
    /// Returns whether the APIC accepted it: `false` if the guest has disabled the APIC.
    ///
    /// # Errors
    ///
    /// [`VmError::Host`] without in-kernel local APICs; [`VmError::ApicId`] for a vCPU with an APIC
    /// id of 255 or more.
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
            // No APIC accepted it: KVM returns -1, which reads as EPERM.
            Err(error) if error.errno() == libc::EPERM => Ok(false),
            Err(error) => Err(host("KVM_SIGNAL_MSI")(error)),
        }
    }

    /// Makes KVM raise and lower interrupt line `gsi` each time `event` is written.
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

/// The address of interrupt messages; bits 12 to 19 hold the destination.
const MSI_ADDRESS: u32 = 0xFEE0_0000;

/// The destination that names every APIC.
const BROADCAST: u32 = 0xFF;
