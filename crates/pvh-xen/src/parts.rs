//! What a platform is made of: the machine, its host, and what the guest is told.

use std::sync::Arc;

use pvh_domain::{MemoryConfig, Recorder};
use pvh_hypercall::XenVersion;
use pvh_kvm::{ApicIds, HypercallTransport, HypervisorLeaves, InterruptControllers, Vm, VmConfig};
use pvh_layout::Layout;

use crate::host::Host;

/// What a platform is made of; [`Parts::new`] makes it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The machine, made with [`vm_config`], with guest memory loaded.
    pub vm: Vm,
    /// The program around the platform.
    pub host: Arc<dyn Host>,
    /// How hypercalls arrive; the same value that [`vm_config`] was given.
    pub transport: HypercallTransport,
    /// The pages of the domain and its memory map.
    pub memory: MemoryConfig,
    /// The UUID of the domain, which the guest reads by hypercall and in xenstore; all zero unless
    /// set.
    pub uuid: [u8; 16],
    /// The name of the domain, which the guest reads in xenstore; `guest` unless set.
    pub name: String,
    /// The Xen whose answers the guest gets; 4.17 unless set.
    pub xen: XenVersion,
    /// Records the calls of the domain, if set.
    pub recorder: Option<Recorder>,
}

impl Parts {
    /// Parts with a zero UUID, the name `guest`, Xen 4.17, and no recorder.
    pub fn new(
        vm: Vm,
        host: Arc<dyn Host>,
        transport: HypercallTransport,
        memory: MemoryConfig,
    ) -> Self {
        Self {
            vm,
            host,
            transport,
            memory,
            uuid: [0; 16],
            name: NAME.to_owned(),
            xen: XenVersion::V4_17,
            recorder: None,
        }
    }
}

/// Returns the configuration of a KVM machine for a Xen domain: local APICs in KVM, no other
/// interrupt controller, even APIC ids, and hypercalls by `transport`.
///
/// A Xen domain has at most 128 vCPUs: an APIC id is one byte, and twice the number of its vCPU.
pub fn vm_config(vcpus: u32, transport: HypercallTransport) -> VmConfig {
    let mut config = VmConfig::new(vcpus);
    config.interrupt_controllers = InterruptControllers::LocalApics;
    config.apic_ids = ApicIds::TwiceIndex;
    // The platform sets the leaves of each vCPU.
    config.hypervisor = HypervisorLeaves::Given(Vec::new());
    config.hypercalls = transport;
    config
}

/// Returns what a domain that is laid out like this is told about its memory: its pages, and the
/// memory map of `XENMEM_memory_map`.
#[must_use]
pub fn memory_config(layout: &Layout) -> MemoryConfig {
    let counts = layout.page_counts();
    MemoryConfig {
        pages: counts.pages,
        max_pages: counts.max_pages,
        max_gfn: counts.max_gfn,
        host_pages: counts.max_gfn.saturating_add(1),
        memory_map: layout.e820(),
    }
}

/// The name of the domain, unless the embedder gives one.
const NAME: &str = "guest";

#[cfg(test)]
mod tests {
    use pvh_layout::{LayoutConfig, Platform, RsdpPlace};

    use super::*;

    #[test]
    fn a_domain_s_host_has_a_page_for_each_frame() {
        let platform = Platform::Xen(RsdpPlace::AfterTables);
        let config = LayoutConfig {
            platform,
            memory_bytes: 16 << 20,
            address_bits: 48,
            apic_ids: &platform.apic_ids(2),
        };
        let memory = memory_config(&Layout::new(&config).unwrap());
        assert_eq!((memory.max_gfn, memory.host_pages), (0xF_EFFF, 0xF_F000));
        assert_eq!(memory.memory_map.len(), 5);
    }
}
