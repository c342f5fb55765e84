//! `hvm_op` and the HVM parameters (xen/include/public/hvm/hvm_op.h, hvm/params.h).
//!
//! Every structure has one layout for 64- and 32-bit callers.

use zerocopy::little_endian::{U16, U32, U64};

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `hvm_op`.
    #[doc(alias = "HVMOP")]
    HvmOp: u64 {
        /// Sets a parameter.
        SET_PARAM = 0,
        /// Reads a parameter.
        GET_PARAM = 1,
        /// Flushes the TLBs of all vCPUs.
        FLUSH_TLBS = 5,
        /// Announces that a page table will be freed.
        PAGETABLE_DYING = 9,
        /// Reads the system time.
        GET_TIME = 10,
        /// Writes a trace record.
        XENTRACE = 11,
        /// Reads the type of a frame.
        GET_MEM_TYPE = 15,
        /// Chooses a vCPU's upcall vector.
        SET_EVTCHN_UPCALL_VECTOR = 23,
        /// Sends an event to a monitor.
        GUEST_REQUEST_VM_EVENT = 24,
        /// Alternate physical maps.
        ALTP2M = 25,
    }
}

open_set! {
    /// An HVM parameter.
    #[doc(alias = "HVM_PARAM")]
    HvmParam: u32 {
        /// How events are delivered.
        CALLBACK_IRQ = 0,
        /// The frame of the xenstore ring.
        STORE_PFN = 1,
        /// The port of xenstore.
        STORE_EVTCHN = 2,
        /// Deprecated.
        PAE_ENABLED = 4,
        /// A frame for device models.
        IOREQ_PFN = 5,
        /// A frame for device models.
        BUFIOREQ_PFN = 6,
        /// Hyper-V features.
        VIRIDIAN = 9,
        /// How missed ticks are delivered.
        TIMER_MODE = 10,
        /// Whether there is a HPET.
        HPET_ENABLED = 11,
        /// An identity page table for old processors.
        IDENT_PT = 12,
        /// Deprecated.
        DM_DOMAIN = 13,
        /// The ACPI sleep state.
        ACPI_S_STATE = 14,
        /// A task state segment for old processors.
        VM86_TSS = 15,
        /// How periodic timers are aligned.
        VPT_ALIGN = 16,
        /// The frame of the console ring.
        CONSOLE_PFN = 17,
        /// The port of the console.
        CONSOLE_EVTCHN = 18,
        /// Which ACPI ports are used.
        ACPI_IOPORTS_LOCATION = 19,
        /// The frame of the paging ring.
        PAGING_RING_PFN = 27,
        /// The frame of the monitor ring.
        MONITOR_RING_PFN = 28,
        /// The frame of the sharing ring.
        SHARING_RING_PFN = 29,
        /// What a triple fault does.
        TRIPLE_FAULT_REASON = 31,
        /// The first frame for ioreq servers.
        IOREQ_SERVER_PFN = 32,
        /// The number of frames for ioreq servers.
        NR_IOREQ_SERVER_PAGES = 33,
        /// The address of the generation id.
        VM_GENERATION_ID_ADDR = 34,
        /// Whether alternate physical maps are on.
        ALTP2M = 35,
        /// The width of the saved x87 instruction pointer.
        X87_FIP_WIDTH = 36,
        /// A task state segment for old processors, with its size.
        VM86_TSS_SIZED = 37,
        /// Machine check capabilities.
        MCA_CAP = 38,
    }
}

impl HvmParam {
    /// The number of parameters.
    #[doc(alias = "HVM_NR_PARAMS")]
    pub const COUNT: u32 = 39;
}

wire! {
    /// The argument of `set_param` and `get_param`.
    #[doc(alias = "xen_hvm_param")]
    HvmParamArg: 16 {
        /// The domain that owns the parameter.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// See [`HvmParam`].
        pub index: U32 = 4,
        /// Its value; out for `get_param`.
        pub value: U64 = 8,
    }
}

wire! {
    /// The argument of `pagetable_dying`.
    #[doc(alias = "xen_hvm_pagetable_dying")]
    PagetableDying: 16 {
        /// The domain that owns the table.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: [u8; 6] = 2,
        /// Its guest-physical address.
        pub gpa: U64 = 8,
    }
}

wire! {
    /// The answer of `get_time`.
    #[doc(alias = "xen_hvm_get_time")]
    GetTime: 8 {
        /// System time in ns.
        pub now: U64 = 0,
    }
}

wire! {
    /// The argument of `get_mem_type`.
    #[doc(alias = "xen_hvm_get_mem_type")]
    GetMemType: 16 {
        /// The domain that owns the memory.
        pub domid: U16 = 0,
        /// Out: 0 RAM, 1 read-only RAM, 2 MMIO.
        pub mem_type: U16 = 2,
        /// Padding.
        pub pad: [U16; 2] = 4,
        /// The frame.
        pub pfn: U64 = 8,
    }
}

wire! {
    /// The argument of `set_evtchn_upcall_vector`.
    #[doc(alias = "xen_hvm_evtchn_upcall_vector")]
    UpcallVector: 8 {
        /// The vCPU.
        pub vcpu: U32 = 0,
        /// Its vector, 0x10 or above.
        pub vector: u8 = 4,
        /// Padding.
        pub pad: [u8; 3] = 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_headers() {
        assert_eq!(HvmOp(23).name(), Some("SET_EVTCHN_UPCALL_VECTOR"));
        assert_eq!(HvmOp(2).name(), None, "moved to dm_op");
        assert_eq!(HvmParam(1).name(), Some("STORE_PFN"));
        assert_eq!(HvmParam(18).name(), Some("CONSOLE_EVTCHN"));
        assert_eq!(HvmParam(3).name(), None, "unused");
        assert_eq!(HvmParam::COUNT, 39);
    }
}
