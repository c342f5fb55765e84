//! `vcpu_op`: sub-operations and structures (xen/include/public/vcpu.h, hvm/hvm_vcpu.h).

use core::mem::offset_of;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `vcpu_op`.
    #[doc(alias = "VCPUOP")]
    VcpuOp: u32 {
        /// Sets the initial state of a vCPU.
        INITIALISE = 0,
        /// Lets a vCPU run.
        UP = 1,
        /// Stops a vCPU.
        DOWN = 2,
        /// Asks whether a vCPU is up.
        IS_UP = 3,
        /// Reads the runstate.
        GET_RUNSTATE_INFO = 4,
        /// Registers a runstate area by linear address.
        REGISTER_RUNSTATE_MEMORY_AREA = 5,
        /// Starts the periodic timer.
        SET_PERIODIC_TIMER = 6,
        /// Stops the periodic timer.
        STOP_PERIODIC_TIMER = 7,
        /// Starts the one-shot timer.
        SET_SINGLESHOT_TIMER = 8,
        /// Stops the one-shot timer.
        STOP_SINGLESHOT_TIMER = 9,
        /// Places the vCPU's `vcpu_info`.
        REGISTER_VCPU_INFO = 10,
        /// Sends an NMI.
        SEND_NMI = 11,
        /// Asks for the physical id.
        GET_PHYSID = 12,
        /// Registers a time area by linear address.
        REGISTER_VCPU_TIME_MEMORY_AREA = 13,
        /// Registers a runstate area by guest-physical address; since Xen 4.18.
        REGISTER_RUNSTATE_PHYS_AREA = 14,
        /// Registers a time area by guest-physical address; since Xen 4.18.
        REGISTER_VCPU_TIME_PHYS_AREA = 15,
    }
}

open_set! {
    /// Which part of a [`VcpuHvmContext`] is used.
    #[doc(alias = "VCPU_HVM_MODE")]
    VcpuHvmMode: u32 {
        /// The 32-bit part.
        MODE_32B = 0,
        /// The 64-bit part.
        MODE_64B = 1,
    }
}

/// The argument of `VCPUOP_initialise`: 128 bytes for every caller.
#[doc(alias = "vcpu_hvm_context")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct VcpuHvmContext {
    /// See [`VcpuHvmMode`].
    pub mode: U32,
    /// Must be 0.
    pub pad: U32,
    /// [`VcpuHvmX86_32`] or [`VcpuHvmX86_64`], by `mode`.
    pub cpu_regs: [u8; 120],
}

const _: () = assert!(size_of::<VcpuHvmContext>() == 128);

/// The state of a vCPU that starts in real, 16- or 32-bit protected mode.
#[doc(alias = "vcpu_hvm_x86_32")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "every field is the register of its name")]
pub struct VcpuHvmX86_32 {
    pub eax: U32,
    pub ecx: U32,
    pub edx: U32,
    pub ebx: U32,
    pub esp: U32,
    pub ebp: U32,
    pub esi: U32,
    pub edi: U32,
    pub eip: U32,
    pub eflags: U32,
    pub cr0: U32,
    pub cr3: U32,
    pub cr4: U32,
    /// Must be 0.
    pub pad1: U32,
    pub efer: U64,
    pub cs_base: U32,
    pub ds_base: U32,
    pub ss_base: U32,
    pub es_base: U32,
    pub tr_base: U32,
    pub cs_limit: U32,
    pub ds_limit: U32,
    pub ss_limit: U32,
    pub es_limit: U32,
    pub tr_limit: U32,
    pub cs_ar: U16,
    pub ds_ar: U16,
    pub ss_ar: U16,
    pub es_ar: U16,
    pub tr_ar: U16,
    /// Must be 0.
    pub pad2: [U16; 3],
}

const _: () = assert!(size_of::<VcpuHvmX86_32>() == 120);
const _: () = assert!(offset_of!(VcpuHvmX86_32, efer) == 56);
const _: () = assert!(offset_of!(VcpuHvmX86_32, cs_ar) == 104);

/// The state of a vCPU that starts in 64-bit mode.
#[doc(alias = "vcpu_hvm_x86_64")]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "every field is the register of its name")]
pub struct VcpuHvmX86_64 {
    pub rax: U64,
    pub rcx: U64,
    pub rdx: U64,
    pub rbx: U64,
    pub rsp: U64,
    pub rbp: U64,
    pub rsi: U64,
    pub rdi: U64,
    pub rip: U64,
    pub rflags: U64,
    pub cr0: U64,
    pub cr3: U64,
    pub cr4: U64,
    pub efer: U64,
}

const _: () = assert!(size_of::<VcpuHvmX86_64>() == 112);

wire! {
    /// The answer of `get_runstate_info`, 64-bit callers.
    #[doc(alias = "vcpu_runstate_info")]
    RunstateInfo: 48 {
        /// 0 running, 1 runnable, 2 blocked, 3 offline.
        pub state: U32 = 0,
        /// Padding.
        pub pad: U32 = 4,
        /// When that state began, as system time in ns.
        pub state_entry_time: U64 = 8,
        /// The time spent in each state, in ns.
        pub time: [U64; 4] = 16,
    }
}

wire! {
    /// The answer of `get_runstate_info`, 32-bit callers.
    #[doc(alias = "vcpu_runstate_info")]
    RunstateInfoCompat: 44 {
        /// 0 running, 1 runnable, 2 blocked, 3 offline.
        pub state: U32 = 0,
        /// When that state began, as system time in ns.
        pub state_entry_time: U64 = 4,
        /// The time spent in each state, in ns.
        pub time: [U64; 4] = 12,
    }
}

wire! {
    /// The argument of `register_runstate_memory_area` and `register_vcpu_time_memory_area`.
    #[doc(alias = "vcpu_register_runstate_memory_area")]
    #[doc(alias = "vcpu_register_time_memory_area")]
    RegisterArea: 8 {
        /// Linear address of the area; 32-bit callers use the low half.
        pub addr: U64 = 0,
    }
}

wire! {
    /// The argument of `set_periodic_timer`.
    #[doc(alias = "vcpu_set_periodic_timer")]
    SetPeriodicTimer: 8 {
        /// Its period in ns.
        pub period_ns: U64 = 0,
    }
}

wire! {
    /// The argument of `set_singleshot_timer`, 64-bit callers.
    #[doc(alias = "vcpu_set_singleshot_timer")]
    SetSingleshotTimer: 16 {
        /// When it fires, as system time in ns.
        pub timeout_abs_ns: U64 = 0,
        /// Bit 0: fail if that time has passed.
        pub flags: U32 = 8,
        /// Padding.
        pub pad: U32 = 12,
    }
}

wire! {
    /// The argument of `set_singleshot_timer`, 32-bit callers.
    #[doc(alias = "vcpu_set_singleshot_timer")]
    SetSingleshotTimerCompat: 12 {
        /// When it fires, as system time in ns.
        pub timeout_abs_ns: U64 = 0,
        /// Bit 0: fail if that time has passed.
        pub flags: U32 = 8,
    }
}

/// Flag of `set_singleshot_timer`: fail if the time has passed.
#[doc(alias = "VCPU_SSHOTTMR_future")]
pub const SINGLESHOT_FUTURE: u32 = 1;

wire! {
    /// The argument of `register_vcpu_info`.
    #[doc(alias = "vcpu_register_vcpu_info")]
    RegisterVcpuInfo: 16 {
        /// The frame.
        pub mfn: U64 = 0,
        /// The offset in the frame, in bytes.
        pub offset: U32 = 8,
        /// Not used.
        pub rsvd: U32 = 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_hvm_vcpu_h() {
        assert_eq!(offset_of!(VcpuHvmContext, cpu_regs), 8);
        assert_eq!(offset_of!(VcpuHvmX86_32, eip), 32);
        assert_eq!(offset_of!(VcpuHvmX86_32, pad1), 52);
        assert_eq!(offset_of!(VcpuHvmX86_32, ss_base), 72);
        assert_eq!(offset_of!(VcpuHvmX86_32, tr_limit), 100);
        assert_eq!(offset_of!(VcpuHvmX86_32, pad2), 114);
        assert_eq!(offset_of!(VcpuHvmX86_64, rip), 64);
        assert_eq!(offset_of!(VcpuHvmX86_64, efer), 104);
    }

    #[test]
    fn sub_operations_are_those_of_vcpu_h() {
        assert_eq!(VcpuOp::IS_UP.0, 3);
        assert_eq!(VcpuOp(10).name(), Some("REGISTER_VCPU_INFO"));
        assert_eq!(VcpuOp(13).name(), Some("REGISTER_VCPU_TIME_MEMORY_AREA"));
        assert_eq!(VcpuOp(15).name(), Some("REGISTER_VCPU_TIME_PHYS_AREA"));
        assert_eq!(VcpuOp(16).name(), None, "not in Xen 4.20");
    }
}
