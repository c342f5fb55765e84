//! The answers of hypercalls that a PVH domain does not have.

use pvh_abi::{DomId, Errno, hypercall::HypercallNumber as Number};

use crate::{Call, Guest, Width, group::low_32};

/// The answer of a hypercall that is refused: its error, unless Xen checks an argument before it
/// checks the caller.
pub(crate) fn refusal(guest: Guest<'_>, call: Call, errno: Errno) -> Result<i64, Errno> {
    let [first, second, third, fourth, ..] = call.args;
    match call.number {
        Number::PLATFORM_OP => interface::<136>(guest, first, PLATFORM_VERSION)?,
        Number::SYSCTL => interface::<136>(guest, first, CONTROL_VERSION)?,
        Number::DOMCTL => interface::<144>(guest, first, CONTROL_VERSION)?,
        PAGING_DOMCTL_CONT => guest.read::<[u8; 144]>(first).map(|_| ())?,
        Number::DM_OP => dm_op(guest, first, second, third)?,
        Number::PHYSDEV_OP if guest.answers().has_pirq_calls => {
            return physdev_op(guest, low_32(first), second);
        }
        Number::MMUEXT_OP => return mmuext_op(guest.width(), low_32(second), fourth),
        _ => {}
    }
    Err(errno)
}

/// The structures of the toolstack have the version of their interface at offset 4.
fn interface<const SIZE: usize>(guest: Guest<'_>, at: u64, version: u32) -> Result<(), Errno> {
    let bytes: [u8; SIZE] = guest.read(at)?;
    let given = bytes.get(4..8);
    if given != Some(&version.to_le_bytes()) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// `dm_op(domain, count, buffers)`.
fn dm_op(guest: Guest<'_>, domain: u64, count: u64, buffers: u64) -> Result<(), Errno> {
    let count = match low_32(count) {
        0 => return Err(Errno::ENODATA),
        count @ 1..=2 => u64::from(count),
        _ => return Err(Errno::E2BIG),
    };
    for index in 0..count {
        match guest.width() {
            Width::Native => guest.array::<[u8; 16]>(buffers).get(index).map(|_| ())?,
            Width::Compat => guest.array::<[u8; 8]>(buffers).get(index).map(|_| ())?,
        }
    }
    match low_domain(domain) {
        // Domain 0 is no HVM domain.
        DomId(0) => Err(Errno::EINVAL),
        DomId::SELF => Err(Errno::ESRCH),
        _ => Ok(()),
    }
}

/// `mmuext_op(list, count, done, domain)`: page tables are PV's, and other domains not the
/// caller's.
fn mmuext_op(width: Width, count: u32, domain: u64) -> Result<i64, Errno> {
    if width == Width::Compat && count == 0 {
        return Ok(0);
    }
    Err(match low_domain(domain) {
        DomId::SELF => Errno::EINVAL,
        DomId(0) | DomId::IO | DomId::XEN => Errno::EPERM,
        _ => Errno::ESRCH,
    })
}

/// `physdev_op(op, argument)`: Xen reads what to map before it refuses the caller.
fn physdev_op(guest: Guest<'_>, op: u32, arg: u64) -> Result<i64, Errno> {
    match (op, guest.width()) {
        (MAP_PIRQ, Width::Native) => guest.read::<[u8; 40]>(arg).map(|_| ())?,
        (MAP_PIRQ, Width::Compat) => guest.read::<[u8; 36]>(arg).map(|_| ())?,
        (UNMAP_PIRQ, _) => guest.read::<[u8; 8]>(arg).map(|_| ())?,
        _ => return Err(Errno::ENOSYS),
    }
    Err(Errno::EPERM)
}

/// The id in an argument: its low 16 bits.
const fn low_domain(argument: u64) -> DomId {
    let [b0, b1, ..] = argument.to_le_bytes();
    DomId(u16::from_le_bytes([b0, b1]))
}

/// The number of the continuation of long toolstack calls; it has no name in the ABI.
pub(crate) const PAGING_DOMCTL_CONT: Number = Number(49);
/// Of `physdev_op`: PHYSDEVOP_map_pirq.
const MAP_PIRQ: u32 = 13;
/// Of `physdev_op`: PHYSDEVOP_unmap_pirq.
const UNMAP_PIRQ: u32 = 14;
const PLATFORM_VERSION: u32 = 0x0300_0001;
/// Of `sysctl` and of `domctl`.
const CONTROL_VERSION: u32 = 0x15;
