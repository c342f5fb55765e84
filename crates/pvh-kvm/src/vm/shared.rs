//! The state that a machine shares with its vCPUs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    CpuidPolicy, HypercallTransport, kvm::Host, memory::vm_with_ram::VmWithRam, vm::hypercalls,
};

/// The state that a machine shares with its vCPUs.
#[derive(Debug)]
pub(crate) struct VmShared {
    pub(crate) vm: VmWithRam,
    pub(crate) host: Arc<Host>,
    pub(crate) policy: CpuidPolicy,
    pub(crate) run_len: usize,
    pub(crate) hypercalls: HypercallTransport,
    /// Whether KVM exits on accesses to the hypercall MSR, or does not have to.
    pub(super) is_msr_filtered: Mutex<bool>,
}

impl VmShared {
    /// Makes KVM exit on accesses to the hypercall MSR. The first vCPU calls it before it can run.
    ///
    /// KVM waits for an RCU grace period in this call. A grace period that starts within 25
    /// microseconds after the end of another, such as that of a memory slot, takes 4 milliseconds
    /// or more. So the call is delayed until the first vCPU is created, which takes longer than 25
    /// microseconds.
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
