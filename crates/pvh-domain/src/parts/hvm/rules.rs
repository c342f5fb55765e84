//! The rules of params.h and Xen 4.17 for each parameter.

use pvh_abi::{Errno, hvm::HvmParam};

/// Who may use a parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// The guest reads and sets it.
    GuestSets,
    /// The guest reads it, the toolstack sets it.
    GuestReads,
    /// The toolstack only.
    Toolstack,
    /// Nobody.
    Deprecated,
}

pub(super) const fn access(param: HvmParam) -> Access {
    match param {
        HvmParam::CALLBACK_IRQ
        | HvmParam::STORE_EVTCHN
        | HvmParam::VM86_TSS
        | HvmParam::CONSOLE_EVTCHN
        | HvmParam::ACPI_IOPORTS_LOCATION
        | HvmParam::VM_GENERATION_ID_ADDR
        | HvmParam::X87_FIP_WIDTH
        | HvmParam::VM86_TSS_SIZED => Access::GuestSets,
        HvmParam::STORE_PFN | HvmParam::CONSOLE_PFN | HvmParam::ALTP2M => Access::GuestReads,
        // 20 to 25 and 30 were memory events and nested virtualisation, 26 a port of a device
        // model.
        HvmParam::PAE_ENABLED | HvmParam::DM_DOMAIN | HvmParam(20..=26 | 30) => Access::Deprecated,
        _ => Access::Toolstack,
    }
}

/// Tells whether a value other than 0 stays for good.
pub(super) const fn is_set_once(param: HvmParam) -> bool {
    matches!(
        param,
        HvmParam::IOREQ_PFN
            | HvmParam::BUFIOREQ_PFN
            | HvmParam::VIRIDIAN
            | HvmParam::IOREQ_SERVER_PFN
            | HvmParam::NR_IOREQ_SERVER_PAGES
            | HvmParam::ALTP2M
            | HvmParam::MCA_CAP
    )
}

/// Tells whether a wrong value crashes the guest that sets it.
pub(super) const fn crashes(param: HvmParam) -> bool {
    matches!(param, HvmParam::VM86_TSS | HvmParam::VM86_TSS_SIZED)
}

pub(super) const fn check(param: HvmParam, value: u64) -> Result<(), Errno> {
    let is_valid = match param {
        // The ports of the ACPI timer, which a PVH domain has not; so Xen answers for every value.
        HvmParam::ACPI_IOPORTS_LOCATION => return Err(Errno::ENODEV),
        HvmParam::VIRIDIAN => value & !VIRIDIAN_FEATURES == 0 && value & VIRIDIAN_BASE != 0,
        HvmParam::TIMER_MODE | HvmParam::ALTP2M => value <= 3,
        HvmParam::ACPI_S_STATE => matches!(value, 0 | 3),
        HvmParam::VM86_TSS => value >> 32 == 0,
        HvmParam::VM86_TSS_SIZED => value >> 32 >= TSS_MIN_BYTES,
        HvmParam::TRIPLE_FAULT_REASON => value <= SHUTDOWN_MAX,
        HvmParam::NR_IOREQ_SERVER_PAGES => matches!(value, 1..=64),
        HvmParam::X87_FIP_WIDTH => matches!(value, 0 | 4 | 8),
        HvmParam::MCA_CAP => value <= 1,
        _ => true,
    };
    if is_valid { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Returns where a valid value is kept, and as what: both parameters for a task state segment are
/// one, with a size of 128 when none was said, and never more than such a segment can have.
pub(super) fn kept(param: HvmParam, value: u64) -> (HvmParam, u64) {
    let (address, size_bytes) = (value & u64::from(u32::MAX), value >> 32);
    match param {
        HvmParam::VM86_TSS if value == 0 => (HvmParam::VM86_TSS_SIZED, 0),
        HvmParam::VM86_TSS => (HvmParam::VM86_TSS_SIZED, TSS_DEFAULT_BYTES << 32 | address),
        HvmParam::VM86_TSS_SIZED => (param, size_bytes.min(TSS_MAX_BYTES) << 32 | address),
        _ => (param, value),
    }
}

/// The last reason for a shutdown that sched.h has, `soft_reset`.
const SHUTDOWN_MAX: u64 = 5;
/// The features of Hyper-V that 4.17 has, bits 0 to 12; bit 0 has to be among them.
const VIRIDIAN_FEATURES: u64 = 0x1fff;
const VIRIDIAN_BASE: u64 = 1;
const TSS_MIN_BYTES: u64 = 104;
const TSS_DEFAULT_BYTES: u64 = 128;
/// The segment, 32 bytes to redirect interrupts, 8192 for all ports, and one to end it.
const TSS_MAX_BYTES: u64 = 8329;
