//! Hypercall numbers (xen/include/public/xen.h).

use crate::open_set::open_set;

open_set! {
    /// The number of a hypercall, from eax or rax.
    #[doc(alias = "__HYPERVISOR")]
    HypercallNumber: u64 {
        /// PV trap table.
        SET_TRAP_TABLE = 0,
        /// PV page table update.
        MMU_UPDATE = 1,
        /// PV descriptor table.
        SET_GDT = 2,
        /// PV stack switch.
        STACK_SWITCH = 3,
        /// PV callbacks.
        SET_CALLBACKS = 4,
        /// PV FPU switch.
        FPU_TASKSWITCH = 5,
        /// The old scheduler call.
        SCHED_OP_COMPAT = 6,
        /// Control of the physical platform.
        PLATFORM_OP = 7,
        /// PV debug register write.
        SET_DEBUGREG = 8,
        /// PV debug register read.
        GET_DEBUGREG = 9,
        /// PV descriptor update.
        UPDATE_DESCRIPTOR = 10,
        /// Memory reservations and the physical map.
        MEMORY_OP = 12,
        /// A list of hypercalls in one.
        MULTICALL = 13,
        /// PV mapping update.
        UPDATE_VA_MAPPING = 14,
        /// The vCPU's one-shot timer.
        SET_TIMER_OP = 15,
        /// The old event channel call.
        EVENT_CHANNEL_OP_COMPAT = 16,
        /// Version, features and build facts.
        XEN_VERSION = 17,
        /// The hypervisor's console.
        CONSOLE_IO = 18,
        /// The old physical device call.
        PHYSDEV_OP_COMPAT = 19,
        /// Grant tables.
        GRANT_TABLE_OP = 20,
        /// Assists of the guest kernel.
        VM_ASSIST = 21,
        /// PV mapping update in another domain.
        UPDATE_VA_MAPPING_OTHERDOMAIN = 22,
        /// PV return from interrupt; a UD2 in an HVM hypercall page.
        IRET = 23,
        /// vCPU lifecycle, timers and shared areas.
        VCPU_OP = 24,
        /// PV segment base.
        SET_SEGMENT_BASE = 25,
        /// PV extended MMU operations.
        MMUEXT_OP = 26,
        /// Security module.
        XSM_OP = 27,
        /// PV NMI callback.
        NMI_OP = 28,
        /// Yield, block, poll, shutdown.
        SCHED_OP = 29,
        /// PV callbacks, newer form.
        CALLBACK_OP = 30,
        /// Profiling.
        XENOPROF_OP = 31,
        /// Event channels.
        EVENT_CHANNEL_OP = 32,
        /// Physical devices and interrupts.
        PHYSDEV_OP = 33,
        /// HVM parameters and helpers.
        HVM_OP = 34,
        /// Control of the hypervisor.
        SYSCTL = 35,
        /// Control of domains.
        DOMCTL = 36,
        /// Kexec of the hypervisor.
        KEXEC_OP = 37,
        /// Transcendent memory, gone.
        TMEM_OP = 38,
        /// Inter-domain messages.
        ARGO_OP = 39,
        /// Performance monitoring.
        XENPMU_OP = 40,
        /// Device models.
        DM_OP = 41,
        /// The hypervisor's file system.
        HYPFS_OP = 42,
    }
}

#[cfg(test)]
mod tests {
    use super::HypercallNumber;

    #[test]
    fn the_numbers_are_those_of_the_xen_header() {
        assert_eq!(HypercallNumber(12).name(), Some("MEMORY_OP"));
        assert_eq!(HypercallNumber(24).name(), Some("VCPU_OP"));
        assert_eq!(HypercallNumber(32).name(), Some("EVENT_CHANNEL_OP"));
        assert_eq!(HypercallNumber(34).name(), Some("HVM_OP"));
        assert_eq!(HypercallNumber(11).name(), None);
        assert_eq!(HypercallNumber(48).name(), None);
    }
}
