//! Sub-operations of `memory_op` that are the toolstack's, or PV's: what a domU is told of them, in Xen's order.

use pvh_abi::{DomId, Errno, memory::MemoryOp};

use crate::{Guest, Width};

/// The error of a sub-operation that a PVH domU cannot have. `start` is how much of the call is done.
pub(super) fn refusal(op: MemoryOp, start: u64, guest: Guest<'_>, arg: u64) -> Errno {
    let refused = match op {
        MemoryOp::MACHPHYS_MFN_LIST if guest.width() == Width::Native => {
            read::<24>(guest, arg).map(|_| Errno::EOPNOTSUPP)
        }
        MemoryOp::MACHPHYS_MFN_LIST | MemoryOp::MACHPHYS_COMPAT_MFN_LIST => Ok(Errno::EOPNOTSUPP),
        SET_POD_TARGET | GET_POD_TARGET => pod_target(guest, arg),
        ACCESS_OP => access_op(guest, arg),
        MemoryOp::CLAIM_PAGES if guest.width() == Width::Native => claim_pages(start, guest, arg),
        MemoryOp::GET_VNUMAINFO => vnuma(start, guest, arg),
        MemoryOp::ACQUIRE_RESOURCE => Ok(Errno::EACCES),
        _ => Ok(Errno::ENOSYS),
    };
    refused.unwrap_or_else(|errno| errno)
}

fn read<const SIZE: usize>(guest: Guest<'_>, arg: u64) -> Result<[u8; SIZE], Errno> {
    guest.read(arg)
}

fn pod_target(guest: Guest<'_>, arg: u64) -> Result<Errno, Errno> {
    let [domain, _] = match guest.width() {
        Width::Native => halves::<40, 32>(guest, arg)?,
        Width::Compat => halves::<36, 32>(guest, arg)?,
    };
    Ok(if domain == 0 {
        Errno::EINVAL // no HVM domain
    } else {
        Errno::EPERM
    })
}

fn access_op(guest: Guest<'_>, arg: u64) -> Result<Errno, Errno> {
    let [_, domain] = match guest.width() {
        Width::Native => halves::<32, 0>(guest, arg)?,
        Width::Compat => halves::<24, 0>(guest, arg)?,
    };
    Ok(match DomId(domain) {
        DomId(0) => Errno::EINVAL, // no HVM domain
        DomId::SELF => Errno::ESRCH,
        _ => Errno::EPERM,
    })
}

fn claim_pages(start: u64, guest: Guest<'_>, arg: u64) -> Result<Errno, Errno> {
    if start != 0 {
        return Err(Errno::EINVAL);
    }
    let [list, _, order_and_flags, _] = guest.read::<[[u8; 8]; 4]>(arg)?;
    if [list, order_and_flags] != [[0; 8]; 2] {
        return Err(Errno::EINVAL);
    }
    let [domain, _] = halves::<32, 24>(guest, arg)?;
    Ok(match DomId(domain) {
        DomId::SELF => Errno::EINVAL, // it wants an id
        _ => Errno::EPERM,
    })
}

fn vnuma(start: u64, guest: Guest<'_>, arg: u64) -> Result<Errno, Errno> {
    if start != 0 {
        return Err(Errno::EINVAL);
    }
    let [_, pad] = halves::<40, 0>(guest, arg)?;
    Ok(if pad == 0 {
        Errno::EOPNOTSUPP
    } else {
        Errno::EINVAL
    })
}

/// Reads a structure whole, and returns the two 16-bit fields at `AT`.
fn halves<const SIZE: usize, const AT: usize>(
    guest: Guest<'_>,
    arg: u64,
) -> Result<[u16; 2], Errno> {
    let bytes = read::<SIZE>(guest, arg)?;
    let half = |at: usize| {
        let low = bytes.get(at).copied().unwrap_or(0);
        let high = bytes.get(at.saturating_add(1)).copied().unwrap_or(0);
        u16::from_le_bytes([low, high])
    };
    Ok([half(AT), half(AT.saturating_add(2))])
}

const SET_POD_TARGET: MemoryOp = MemoryOp(16);
const GET_POD_TARGET: MemoryOp = MemoryOp(17);
const ACCESS_OP: MemoryOp = MemoryOp(21);
