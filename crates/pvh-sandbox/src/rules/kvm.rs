//! The ioctls of KVM, by the thread that makes them. Their numbers are those of linux/kvm.h.

use crate::rule::{NONE, READ, Rule, WRITE, ioc};

/// What a vCPU's thread asks of its vCPU.
pub(crate) const VCPU: &[Rule] = &[
    // First: it is made most often.
    kvm(NONE, 0x80, 0, "KVM_RUN", "enters the guest"),
    kvm(
        READ,
        0x98,
        4,
        "KVM_GET_MP_STATE",
        "is the vCPU halted or waiting for a start?",
    ),
    kvm(
        WRITE,
        0x99,
        4,
        "KVM_SET_MP_STATE",
        "wakes, parks and starts a vCPU",
    ),
    kvm(
        READ,
        0x81,
        144,
        "KVM_GET_REGS",
        "a hypercall, a halt, a crash report",
    ),
    kvm(
        WRITE,
        0x82,
        144,
        "KVM_SET_REGS",
        "a start, and the result of a hypercall",
    ),
    kvm(
        READ,
        0x83,
        312,
        "KVM_GET_SREGS",
        "a hypercall's mode, a crash report",
    ),
    kvm(WRITE, 0x84, 312, "KVM_SET_SREGS", "a start"),
    kvm(
        READ,
        0x9F,
        64,
        "KVM_GET_VCPU_EVENTS",
        "what is pending, before an upcall",
    ),
    kvm(WRITE, 0xA0, 64, "KVM_SET_VCPU_EVENTS", "an upcall, a start"),
    kvm(READ, 0xA1, 128, "KVM_GET_DEBUGREGS", "a crash report"),
    kvm(WRITE, 0xA2, 128, "KVM_SET_DEBUGREGS", "a start"),
    kvm(
        READ | WRITE,
        0x88,
        8,
        "KVM_GET_MSRS",
        "a start keeps what the host has set",
    ),
    kvm(WRITE, 0x89, 8, "KVM_SET_MSRS", "a start"),
    kvm(WRITE, 0x8D, 416, "KVM_SET_FPU", "a start"),
    kvm(
        WRITE,
        0x90,
        8,
        "KVM_SET_CPUID2",
        "the first start of a vCPU",
    ),
    kvm(NONE, 0x9A, 0, "KVM_NMI", "a guest sends an NMI to its vCPU"),
    kvm(
        WRITE,
        0x9B,
        72,
        "KVM_SET_GUEST_DEBUG",
        "a fault of the guest, with --debug-faults",
    ),
    kvm(NONE, 0xA3, 0, "KVM_GET_TSC_KHZ", "the clock of the domain"),
];

/// An interrupt for the guest.
pub(crate) const INTERRUPTS: &[Rule] = &[
    kvm(
        WRITE,
        0xA5,
        32,
        "KVM_SIGNAL_MSI",
        "an upcall of an event channel",
    ),
    kvm(
        WRITE,
        0x61,
        8,
        "KVM_IRQ_LINE",
        "an interrupt line of a device",
    ),
];

/// Changes of the guest's memory map.
pub(crate) const MEMORY_SLOTS: &[Rule] = &[kvm(
    WRITE,
    0x46,
    32,
    "KVM_SET_USER_MEMORY_REGION",
    "a guest adds frames, and gives frames back",
)];

/// What makes a machine.
pub(crate) const MACHINE: &[Rule] = &[
    kvm(NONE, 0x00, 0, "KVM_GET_API_VERSION", "is this KVM?"),
    kvm(NONE, 0x01, 0, "KVM_CREATE_VM", "a machine"),
    kvm(NONE, 0x03, 0, "KVM_CHECK_EXTENSION", "what this KVM can do"),
    kvm(
        NONE,
        0x04,
        0,
        "KVM_GET_VCPU_MMAP_SIZE",
        "a vCPU's shared page",
    ),
    kvm(
        READ | WRITE,
        0x05,
        8,
        "KVM_GET_SUPPORTED_CPUID",
        "the CPUID leaves of vCPUs",
    ),
    kvm(NONE, 0x41, 0, "KVM_CREATE_VCPU", "a vCPU"),
    kvm(
        NONE,
        0xCE,
        0,
        "KVM_GET_STATS_FD",
        "the counters of a vCPU's exits",
    ),
    kvm(
        NONE,
        0x47,
        0,
        "KVM_SET_TSS_ADDR",
        "three pages for KVM's own use",
    ),
    kvm(
        WRITE,
        0x48,
        8,
        "KVM_SET_IDENTITY_MAP_ADDR",
        "a page for KVM's own use",
    ),
    kvm(
        NONE,
        0xCE,
        0,
        "KVM_GET_STATS_FD",
        "counters of a vCPU, with --exits",
    ),
    kvm(NONE, 0x60, 0, "KVM_CREATE_IRQCHIP", "interrupt controllers"),
    kvm(WRITE, 0x77, 64, "KVM_CREATE_PIT2", "the timer of a PC"),
    kvm(
        WRITE,
        0x76,
        32,
        "KVM_IRQFD",
        "an eventfd that is the serial port's line",
    ),
    kvm(
        WRITE,
        0xA3,
        104,
        "KVM_ENABLE_CAP",
        "local APICs without a PIC; MSR exits",
    ),
    kvm(
        WRITE,
        0xC6,
        392,
        "KVM_X86_SET_MSR_FILTER",
        "the MSR of the hypercall page",
    ),
    kvm(
        WRITE,
        0x7A,
        56,
        "KVM_XEN_HVM_CONFIG",
        "KVM hands hypercalls over",
    ),
];

const fn kvm(
    direction: u32,
    number: u8,
    size_bytes: u32,
    name: &'static str,
    reason: &'static str,
) -> Rule {
    Rule::ioctl(name, ioc(direction, KVM, number, size_bytes), reason)
}

/// The letter of KVM's ioctls.
const KVM: u8 = 0xAE;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use kvm_bindings::*;

    use super::*;

    fn request(name: &str) -> u32 {
        let groups = [VCPU, INTERRUPTS, MEMORY_SLOTS, MACHINE];
        let mut rules = groups.into_iter().flatten();
        let rule = rules.find(|rule| rule.detail == name).unwrap();
        match rule.tests[0] {
            crate::rule::ArgTest::Equals { arg: 1, value } => value,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_kernel_s_headers() {
        // Decimal numbers that strace prints, and `_IO`, `_IOR`, `_IOW` written out.
        assert_eq!(request("KVM_RUN"), 0xAE80);
        assert_eq!(request("KVM_GET_REGS"), 0x8090_AE81);
        assert_eq!(request("KVM_SET_SREGS"), 0x4138_AE84);
        assert_eq!(request("KVM_SET_USER_MEMORY_REGION"), 0x4020_AE46);
        assert_eq!(request("KVM_GET_SUPPORTED_CPUID"), 0xC008_AE05);
        assert_eq!(request("KVM_SIGNAL_MSI"), 0x4020_AEA5);
    }

    #[test]
    fn each_size_is_that_of_the_structure() {
        let sizes = [
            ("KVM_GET_MP_STATE", size_of::<kvm_mp_state>()),
            ("KVM_SET_MP_STATE", size_of::<kvm_mp_state>()),
            ("KVM_GET_REGS", size_of::<kvm_regs>()),
            ("KVM_SET_REGS", size_of::<kvm_regs>()),
            ("KVM_GET_SREGS", size_of::<kvm_sregs>()),
            ("KVM_SET_SREGS", size_of::<kvm_sregs>()),
            ("KVM_GET_VCPU_EVENTS", size_of::<kvm_vcpu_events>()),
            ("KVM_SET_VCPU_EVENTS", size_of::<kvm_vcpu_events>()),
            ("KVM_GET_DEBUGREGS", size_of::<kvm_debugregs>()),
            ("KVM_SET_DEBUGREGS", size_of::<kvm_debugregs>()),
            ("KVM_GET_MSRS", size_of::<kvm_msrs>()),
            ("KVM_SET_MSRS", size_of::<kvm_msrs>()),
            ("KVM_SET_FPU", size_of::<kvm_fpu>()),
            ("KVM_SET_GUEST_DEBUG", size_of::<kvm_guest_debug>()),
            ("KVM_SET_CPUID2", size_of::<kvm_cpuid2>()),
            ("KVM_SIGNAL_MSI", size_of::<kvm_msi>()),
            ("KVM_IRQ_LINE", size_of::<kvm_irq_level>()),
            (
                "KVM_SET_USER_MEMORY_REGION",
                size_of::<kvm_userspace_memory_region>(),
            ),
            ("KVM_GET_SUPPORTED_CPUID", size_of::<kvm_cpuid2>()),
            ("KVM_SET_IDENTITY_MAP_ADDR", size_of::<u64>()),
            ("KVM_CREATE_PIT2", size_of::<kvm_pit_config>()),
            ("KVM_IRQFD", size_of::<kvm_irqfd>()),
            ("KVM_ENABLE_CAP", size_of::<kvm_enable_cap>()),
            ("KVM_X86_SET_MSR_FILTER", size_of::<kvm_msr_filter>()),
            ("KVM_XEN_HVM_CONFIG", size_of::<kvm_xen_hvm_config>()),
        ];
        for (name, size) in sizes {
            let in_number = (request(name) >> 16) & 0x3FFF;
            assert_eq!(in_number as usize, size, "{name}");
        }
    }
}
