//! The state of a virtual CPU: its descriptor, the pages it shares with KVM, its pending answer.

use std::{io, sync::Arc, thread::ThreadId};

use kvm_ioctls::VcpuFd;

use super::{
    error::{VcpuError, host},
    kick::{KickTarget, Kicker},
    pending::Pending,
    run_page::RunPage,
    sync_registers::{SYNC_FIELDS, SYNC_VALID_AT},
};
use crate::{
    CpuidLeaf, HypercallTransport, HypervisorLeaves, cpuid_for_vcpu, vm::shared::VmShared,
};

/// A virtual CPU. One thread runs it at a time; it may move between threads.
///
/// It hands out no descriptor: only this crate maps its `kvm_run` page and makes ioctls on it.
#[derive(Debug)]
pub struct Vcpu {
    // Declared before `vm`: the descriptor has to close before the machine's, see `VmWithRam`.
    pub(super) fd: VcpuFd,
    pub(super) page: RunPage,
    pub(super) kick: Arc<KickTarget>,
    pub(super) vm: Arc<VmShared>,
    pub(super) index: u32,
    pub(super) apic_id: u32,
    pub(super) pending: Pending,
    /// Whether the last run was interrupted, so that KVM has no instruction to finish.
    pub(super) is_settled: bool,
    /// Whether CPUID, MSRs and FPU have been set.
    pub(super) is_prepared: bool,
    /// The CPUID leaves from 0x4000_0000 on, if they differ from the machine's.
    pub(super) hypervisor: Option<HypervisorLeaves>,
    /// The last thread that ran it. That thread has the kick signal unblocked.
    pub(super) thread: Option<ThreadId>,
}

impl Vcpu {
    pub(crate) fn new(vm: &Arc<VmShared>, index: u32) -> Result<Self, VcpuError> {
        let vcpus = vm.policy.vcpus;
        let apic_id = vm.policy.apic_ids.apic_id(index);
        let (true, Some(apic_id)) = (index < vcpus, apic_id) else {
            return Err(VcpuError::NoSuchVcpu { index, vcpus });
        };
        let fd = vm.vm.fd().create_vcpu(u64::from(apic_id));
        let fd = fd.map_err(host(index, "KVM_CREATE_VCPU"))?;
        let page = RunPage::map(&fd, vm.run_len);
        let page = page.map_err(host(index, "mapping kvm_run"))?;
        let kick = KickTarget::new(&fd);
        let kick = kick.map_err(host(index, "mapping kvm_run"))?;
        let mut vcpu = Self {
            fd,
            page,
            kick,
            vm: Arc::clone(vm),
            index,
            apic_id,
            pending: Pending::Nothing,
            is_settled: false,
            is_prepared: false,
            hypervisor: None,
            thread: None,
        };
        vcpu.request_registers()?;
        vcpu.check_address_bits()?;
        let taken = vcpu.vm.filter_msr();
        taken.map_err(vcpu.host("handing over the hypercall MSR"))?;
        Ok(vcpu)
    }

    /// Returns the index of the vCPU in its machine.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Returns the APIC id of the vCPU.
    #[must_use]
    pub const fn apic_id(&self) -> u32 {
        self.apic_id
    }

    /// Returns the CPUID leaves of the vCPU.
    #[must_use]
    pub fn cpuid(&self) -> Vec<CpuidLeaf> {
        let mut policy = self.vm.policy.clone();
        if let Some(hypervisor) = &self.hypervisor {
            policy.hypervisor = hypervisor.clone();
        }
        // KVM listed them when the vCPU was created.
        let supported = self.vm.host.cpuid().unwrap_or_default();
        cpuid_for_vcpu(supported, self.index, &policy)
    }

    /// Replaces the machine's hypervisor leaves for this vCPU. Call it before the vCPU first runs.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses them, as it does once the vCPU has run.
    pub fn set_hypervisor_leaves(&mut self, leaves: HypervisorLeaves) -> Result<(), VcpuError> {
        self.hypervisor = Some(leaves);
        match self.is_prepared {
            true => self.set_cpuid(),
            // `prepare` sets them.
            false => Ok(()),
        }
    }

    /// Returns a handle with which other threads stop this vCPU.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.kick.kicker()
    }

    /// Makes KVM copy registers to the run page at each exit, if the machine has hypercalls.
    fn request_registers(&mut self) -> Result<(), VcpuError> {
        if self.vm.hypercalls == HypercallTransport::None {
            return Ok(());
        }
        self.copy_in(SYNC_VALID_AT, &u64::from(SYNC_FIELDS).to_le_bytes())
    }

    pub(super) fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> Result<(), VcpuError> {
        let copied = self.page.copy_in(offset, bytes);
        copied.ok_or(self.outside(offset, bytes.len()))
    }

    pub(super) fn copy_out(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), VcpuError> {
        let copied = self.page.copy_out(offset, buf);
        copied.ok_or(self.outside(offset, buf.len()))
    }

    pub(super) const fn outside(&self, offset: usize, len: usize) -> VcpuError {
        VcpuError::RunPage {
            index: self.index,
            offset,
            len,
        }
    }

    pub(super) fn host<E: Into<io::Error>>(
        &self,
        step: &'static str,
    ) -> impl FnOnce(E) -> VcpuError + use<E> {
        host(self.index, step)
    }
}
