//! What a machine and its vCPUs share.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    CpuidPolicy, HypercallTransport, kvm::Host, memory::vm_with_ram::VmWithRam, vm::hypercalls,
};

/// What a machine and its vCPUs have in common.
#[derive(Debug)]
pub(crate) struct VmShared {
    pub(crate) vm: VmWithRam,
    pub(crate) host: Arc<Host>,
    pub(crate) policy: CpuidPolicy,
    pub(crate) run_len: usize,
    pub(crate) hypercalls: HypercallTransport,
    /// The guest's accesses to the hypercall MSR are handed over, or need not be.
    pub(super) is_msr_filtered: Mutex<bool>,
}

impl VmShared {
    /// Sees to it, before a vCPU can run, that KVM hands over the guest's accesses to the hypercall MSR.
    ///
    /// KVM waits for a grace period of the machine then. One that begins within 25 microseconds of the end of another, such as
    /// that of a memory slot, is of the slow kind and takes 4 milliseconds and more. So it is left until the first vCPU is
    /// made, which takes long enough.
    pub(crate) fn filter_msr(&self) -> io::Result<()> {
        let mut is_filtered = self
            .is_msr_filtered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*is_filtered {
            hypercalls::filter_hypercall_msr(self.vm.fd())?;
            *is_filtered = true;
        }
        Ok(())
    }
}
