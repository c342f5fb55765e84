//! A platform for tests: its vCPU does not run.

use std::sync::Arc;

use pvh_abi::{Gpa, GuestRange};
use pvh_domain::MemoryConfig;
use pvh_kvm::{GuestRam, HypercallTransport, Kvm, Vcpu, Vm};

use crate::{Host, Parts, XenPlatform, vm_config};

/// A domain with 64 MiB and one vCPU, which does not run.
pub(crate) fn platform(host: Arc<dyn Host>) -> (XenPlatform, Vcpu) {
    let transport = HypercallTransport::Port { port: 0xE4 };
    let ram = GuestRange::new(Gpa(0), 64 << 20);
    let special = GuestRange::new(Gpa(0xFEFF_8000), 0x8000);
    let ram = GuestRam::with_ranges(&[ram], &[special], 48).unwrap();
    let memory = MemoryConfig {
        pages: 0x4008,
        max_pages: 0x4_0000,
        max_gfn: 0xF_EFFF,
        host_pages: 0xF_F000,
        memory_map: Vec::new(),
    };
    let config = vm_config(1, transport);
    let vm = Vm::new(&Kvm::open().unwrap(), &config, Arc::new(ram)).unwrap();
    let mut vcpus = [vm.create_vcpu(0).unwrap()];
    let parts = Parts::new(vm, host, transport, memory);
    let platform = XenPlatform::new(parts, &mut vcpus).unwrap();
    let [vcpu] = vcpus;
    (platform, vcpu)
}
