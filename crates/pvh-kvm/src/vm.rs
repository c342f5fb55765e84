//! A virtual machine: its memory, its interrupt controllers, its vCPUs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_PIT_SPEAKER_DUMMY, kvm_enable_cap, kvm_msi, kvm_pit_config,
};
use kvm_ioctls::Cap;
use pvh_abi::{Gpa, GuestRange};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    ApicIds, CpuidPolicy, GuestRam, HypercallTransport, HypervisorLeaves, Kvm, Vcpu, VcpuError,
    kvm::Host,
    memory::slots::{self, VmWithRam},
    vcpu::{hypercall, kick},
};

mod xen_config;

/// The page KVM takes for an identity map, where the processor cannot run real mode by itself.
pub const IDENTITY_MAP_AT: Gpa = Gpa(0xFFFB_C000);

/// The three pages KVM takes for a task state segment, for the same reason.
pub const TSS_AT: Gpa = Gpa(0xFFFB_D000);

/// Length of the pages at [`IDENTITY_MAP_AT`] and [`TSS_AT`] together, which follow each other. A memory
/// map that reports them at all reports them as reserved.
pub const KVM_PRIVATE_BYTES: u64 = 0x4000;

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

/// What a machine and its vCPUs have in common.
#[derive(Debug)]
pub(crate) struct VmShared {
    pub(crate) vm: VmWithRam,
    pub(crate) host: Arc<Host>,
    pub(crate) policy: CpuidPolicy,
    pub(crate) run_len: usize,
    pub(crate) hypercalls: HypercallTransport,
    /// The guest's accesses to the hypercall MSR are handed over, or need not be.
    is_msr_ours: Mutex<bool>,
}

impl VmShared {
    /// Sees to it, before a vCPU can run, that KVM hands over the guest's accesses to the hypercall MSR.
    ///
    /// KVM waits for a grace period of the machine then. One that begins within 25 microseconds of the end of another, such as
    /// that of a memory slot, is of the slow kind and takes 4 milliseconds and more. So it is left until the first vCPU is
    /// made, which takes long enough.
    pub(crate) fn take_msr(&self) -> io::Result<()> {
        let mut is_ours = self
            .is_msr_ours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*is_ours {
            hypercall::hand_over_msr(self.vm.fd())?;
            *is_ours = true;
        }
        Ok(())
    }
}

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

/// Why a machine cannot be built, or refused a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// There are no vCPUs, more than KVM can have, or more than its APIC ids can name.
    #[error("{vcpus} vCPUs: this host's KVM can have 1 to {limit}")]
    VcpuCount {
        /// How many were asked for.
        vcpus: u32,
        /// The most this host can have.
        limit: u32,
    },
    /// The RAM reaches beyond what this host's KVM lets a guest address.
    #[error(
        "guest memory ends at {end}, beyond the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// First address after the RAM.
        end: Gpa,
        /// Width of a guest-physical address.
        address_bits: u8,
    },
    /// The RAM takes more memory slots than there are.
    #[error("guest memory takes {slots} memory slots, this host's KVM has {limit}")]
    MemorySlots {
        /// How many it takes.
        slots: usize,
        /// How many there are.
        limit: u32,
    },
    /// An interrupt cannot be sent to a vCPU: its APIC id does not fit a message.
    #[error("vCPU {index} has an APIC id that no interrupt message can name")]
    ApicId {
        /// The vCPU.
        index: u32,
    },
    /// The host's KVM lacks something that this machine needs.
    #[error("this host's KVM lacks {capability}")]
    Capability {
        /// KVM's name for it.
        capability: &'static str,
    },
    /// A call to the host failed.
    #[error("{step} failed")]
    Host {
        /// Which one.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
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
            is_msr_ours: Mutex::new(config.hypercalls == HypercallTransport::None),
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

fn check_limits(kvm: &Kvm, config: &VmConfig, ram: &GuestRam) -> Result<(), VmError> {
    let capabilities = kvm.capabilities();
    let limit = vcpu_limit(config, capabilities.max_vcpus, capabilities.max_apic_ids);
    if config.vcpus == 0 || config.vcpus > limit {
        return Err(VmError::VcpuCount {
            vcpus: config.vcpus,
            limit,
        });
    }
    check_address_bits(&ram.ram_ranges(), capabilities.address_bits)?;
    let slots = slots::slot_count(ram);
    let limit = capabilities.max_memory_slots;
    if u32::try_from(slots).map_or(true, |slots| slots > limit) {
        return Err(VmError::MemorySlots { slots, limit });
    }
    if let Some(capability) = capabilities.missing_for(config.hypercalls) {
        return Err(VmError::Capability { capability });
    }
    let needed: &[(Cap, &str)] = match config.interrupt_controllers {
        InterruptControllers::None => &[],
        InterruptControllers::LocalApics => &LOCAL_APICS,
        _ => &CHIPS,
    };
    match needed
        .iter()
        .find(|(cap, _)| !kvm.fd().check_extension(*cap))
    {
        Some((_, capability)) => Err(VmError::Capability { capability }),
        None => Ok(()),
    }
}

/// Refuses RAM beyond `2^address_bits`.
fn check_address_bits(ranges: &[GuestRange], address_bits: u8) -> Result<(), VmError> {
    match end_beyond(ranges, address_bits) {
        Some(end) => Err(VmError::RamTooHigh { end, address_bits }),
        None => Ok(()),
    }
}

/// Returns the end of RAM if addresses of so many bits do not reach it.
pub(crate) fn end_beyond(ranges: &[GuestRange], address_bits: u8) -> Option<Gpa> {
    let space = 1_u64.checked_shl(address_bits.into()).unwrap_or(u64::MAX);
    let last = ranges.last()?;
    let end = last.start.checked_add(last.len_bytes)?;
    (end.0 > space).then_some(end)
}

/// Returns how many vCPUs a machine may have, by their number and by their APIC ids.
fn vcpu_limit(config: &VmConfig, max_vcpus: u32, max_apic_ids: u32) -> u32 {
    if config.interrupt_controllers == InterruptControllers::None {
        return max_vcpus.min(1);
    }
    let by_id = match config.apic_ids {
        ApicIds::Index => max_apic_ids,
        ApicIds::TwiceIndex => max_apic_ids.div_ceil(2),
    };
    max_vcpus.min(by_id)
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

/// Names the call that failed.
fn host<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> VmError {
    move |error| VmError::Host {
        step,
        source: error.into(),
    }
}

/// What in-kernel interrupt controllers need.
const CHIPS: [(Cap, &str); 3] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
];

/// What in-kernel local APICs alone need, and what tells and changes the events of a vCPU with them.
const LOCAL_APICS: [(Cap, &str); 3] = [
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
];

/// Where interrupt messages go; bits 12 to 19 are the destination.
const MSI_ADDRESS: u32 = 0xFEE0_0000;

/// The destination that is every APIC.
const BROADCAST: u32 = 0xFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_are_limited_by_their_number_and_by_their_apic_ids() {
        let mut config = VmConfig::new(1);
        assert_eq!(vcpu_limit(&config, 288, 1024), 288);
        assert_eq!(vcpu_limit(&config, 288, 255), 255);
        config.apic_ids = ApicIds::TwiceIndex;
        assert_eq!(vcpu_limit(&config, 288, 255), 128);
        assert_eq!(vcpu_limit(&config, 288, 1024), 288);
        config.interrupt_controllers = InterruptControllers::None;
        assert_eq!(vcpu_limit(&config, 288, 1024), 1);
    }

    #[test]
    fn ram_beyond_what_kvm_lets_a_guest_address_is_refused() {
        let ranges = [
            GuestRange::new(Gpa(0), 0xFC00_0000),
            GuestRange::new(Gpa(0x1_0000_0000), 0x400_0000),
        ];
        assert!(check_address_bits(&ranges, 46).is_ok());
        assert!(check_address_bits(&ranges, 64).is_ok());
        let error = check_address_bits(&ranges, 32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "guest memory ends at 0x104000000, beyond the 32 bits of a guest-physical address"
        );
    }

    #[test]
    fn what_kvm_takes_for_itself_lies_in_the_hole_and_touches() {
        assert_eq!(IDENTITY_MAP_AT, Gpa(0xFFFB_C000));
        assert_eq!(TSS_AT.0 - IDENTITY_MAP_AT.0, 0x1000);
        assert_eq!(KVM_PRIVATE_BYTES, 0x1000 + 3 * 0x1000);
    }
}
