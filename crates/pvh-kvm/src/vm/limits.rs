//! Checks a configuration against the limits of this host's KVM.

use kvm_ioctls::Cap;
use pvh_abi::{Gpa, GuestRange};

use super::{
    config::{InterruptControllers, VmConfig},
    error::VmError,
};
use crate::{ApicIds, GuestRam, Kvm, memory::vm_with_ram};

/// Refuses a machine that exceeds this host's limits.
pub(super) fn check_limits(kvm: &Kvm, config: &VmConfig, ram: &GuestRam) -> Result<(), VmError> {
    let capabilities = kvm.capabilities();
    let limit = vcpu_limit(config, capabilities.max_vcpus, capabilities.max_apic_ids);
    if config.vcpus == 0 || config.vcpus > limit {
        return Err(VmError::VcpuCount {
            vcpus: config.vcpus,
            limit,
        });
    }
    check_address_bits(&ram.ram_ranges(), capabilities.address_bits)?;
    let slots = vm_with_ram::slot_count(ram);
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

/// Refuses RAM above `2^address_bits`.
fn check_address_bits(ranges: &[GuestRange], address_bits: u8) -> Result<(), VmError> {
    match ram_end_above(ranges, address_bits) {
        Some(end) => Err(VmError::RamTooHigh { end, address_bits }),
        None => Ok(()),
    }
}

/// Returns the end of RAM if it is above `2^address_bits`.
pub(crate) fn ram_end_above(ranges: &[GuestRange], address_bits: u8) -> Option<Gpa> {
    let space = 1_u64.checked_shl(address_bits.into()).unwrap_or(u64::MAX);
    let last = ranges.last()?;
    let end = last.start.checked_add(last.len_bytes)?;
    (end.0 > space).then_some(end)
}

/// Returns the largest number of vCPUs, limited by KVM's number of vCPUs and of APIC ids.
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

/// What all in-kernel interrupt controllers need.
const CHIPS: [(Cap, &str); 3] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
];

/// What local APICs alone need: the split irqchip, interrupt messages, and reading and setting a
/// vCPU's pending events.
const LOCAL_APICS: [(Cap, &str); 3] = [
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
];

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
    fn ram_above_the_guests_addresses_is_refused() {
        let ranges = [
            GuestRange::new(Gpa(0), 0xFC00_0000),
            GuestRange::new(Gpa(0x1_0000_0000), 0x400_0000),
        ];
        assert!(check_address_bits(&ranges, 46).is_ok());
        assert!(check_address_bits(&ranges, 64).is_ok());
        let error = check_address_bits(&ranges, 32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "guest memory ends at 0x104000000, above the 32 bits of a guest-physical address"
        );
    }
}
