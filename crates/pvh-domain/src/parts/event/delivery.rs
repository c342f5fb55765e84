//! Where events go, and the signals that a call raises.

use pvh_memory::GuestMemory;

use super::HostPort;
use crate::parts::{shared_info::SharedInfo, vcpu_info::VcpuInfos};

/// What the domain has to do after a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// `evtchn_upcall_pending` of the vCPU has just gone from 0 to 1: inject its upcall, by the
    /// method that the guest chose, and wake it if it is blocked.
    Upcall(u32),
    /// An event that the vCPU polls for is pending: wake it. It polls no longer.
    Unblock(u32),
    /// The guest has raised the event of a port that is joined to this end of the embedder's.
    Host(HostPort),
}

/// Where events go: guest memory, the places in it, and the signals of a call in the order in which
/// the domain carries them out.
pub struct Delivery<'domain> {
    /// The guest's memory.
    pub memory: &'domain dyn GuestMemory,
    /// The page with the words of the two-level ABI.
    pub shared_info: &'domain SharedInfo,
    /// Where the vCPUs are told.
    pub vcpu_infos: &'domain VcpuInfos,
    /// What has to be done; a call adds to it.
    pub signals: Vec<Signal>,
}

impl core::fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Delivery")
            .field("signals", &self.signals)
            .finish_non_exhaustive()
    }
}

impl<'domain> Delivery<'domain> {
    /// Makes a delivery without signals.
    #[must_use]
    pub const fn new(
        memory: &'domain dyn GuestMemory,
        shared_info: &'domain SharedInfo,
        vcpu_infos: &'domain VcpuInfos,
    ) -> Self {
        Self {
            memory,
            shared_info,
            vcpu_infos,
            signals: Vec::new(),
        }
    }

    /// Sets the upcall flag of a vCPU; an upcall follows if it was clear.
    pub(super) fn upcall(&mut self, vcpu: u32) {
        let infos = self.vcpu_infos;
        if infos.mark_upcall(self.memory, self.shared_info, vcpu) {
            self.signals.push(Signal::Upcall(vcpu));
        }
    }
}
