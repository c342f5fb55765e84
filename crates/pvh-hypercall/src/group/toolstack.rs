//! Sub-operations of `memory_op` that are the toolstack's, or PV's: what a domU is told of them, in
//! Xen's order.

use pvh_abi::{DomId, Errno, memory::MemoryOp};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::{Guest, Width};

/// What a sub-operation answers that a PVH domU has no use for. `start` is how much of the call is
/// done.
pub(super) fn answer(op: MemoryOp, start: u64, guest: Guest<'_>, arg: u64) -> Result<i64, Errno> {
    let is_native = guest.width() == Width::Native;
    match op {
        MemoryOp::MACHPHYS_MFN_LIST if is_native => {
            read::<24>(guest, arg)?;
            Err(Errno::EOPNOTSUPP)
        }
        MemoryOp::MACHPHYS_MFN_LIST | MemoryOp::MACHPHYS_COMPAT_MFN_LIST => Err(Errno::EOPNOTSUPP),
        MemoryOp::EXCHANGE => {
            either::<72, 44>(guest, arg)?;
            Err(Errno::ENOSYS)
        }
        SET_POD_TARGET | GET_POD_TARGET => Err(pod_target(guest, arg)?),
        // No page is shared between domains.
        GET_SHARING_FREED_PAGES | GET_SHARING_SHARED_PAGES => Ok(0),
        ACCESS_OP => Err(access_op(guest, arg)?),
        MemoryOp::CLAIM_PAGES if is_native => Err(claim_pages(start, guest, arg)?),
        MemoryOp::GET_VNUMAINFO => Err(vnuma(start, guest, arg)?),
        MemoryOp::RESERVED_DEVICE_MEMORY_MAP => device_memory(start, guest, arg),
        MemoryOp::MACHINE_MEMORY_MAP if guest.answers().refuses_machine_map => {
            if !is_native {
                read::<8>(guest, arg)?;
            }
            Err(Errno::EPERM)
        }
        MemoryOp::ACQUIRE_RESOURCE if guest.answers().reads_resource => {
            Err(acquire_resource(start, guest, arg)?)
        }
        MemoryOp::ACQUIRE_RESOURCE => {
            if !is_native {
                read::<28>(guest, arg)?;
            }
            Err(Errno::EACCES)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Reads a structure and ignores its content: `N` bytes of a 64-bit caller's, `C` of a 32-bit
/// one's.
fn either<const N: usize, const C: usize>(guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    match guest.width() {
        Width::Native => read::<N>(guest, arg).map(|_| ()),
        Width::Compat => read::<C>(guest, arg).map(|_| ()),
    }
}

/// No device needs identity-mapped memory: the number of ranges becomes 0.
fn device_memory(start: u64, guest: Guest<'_>, arg: u64) -> Result<i64, Errno> {
    if start != 0 {
        return Err(Errno::EINVAL);
    }
    either::<24, 16>(guest, arg)?;
    let flags: [u8; 4] = guest.read(arg)?;
    if !matches!(flags, [0 | 1, 0, 0, 0]) {
        return Err(Errno::EINVAL);
    }
    let count = arg.checked_add(4).ok_or(Errno::EFAULT)?;
    guest.write(count, &[0_u8; 4])?;
    Ok(0)
}

fn read<const SIZE: usize>(guest: Guest<'_>, arg: u64) -> Result<[u8; SIZE], Errno> {
    guest.read(arg)
}

/// The argument is checked first, the domain last. Of other domains only 0 is known here: each of
/// the rest is refused alike.
fn acquire_resource(start: u64, guest: Guest<'_>, arg: u64) -> Result<Errno, Errno> {
    either::<32, 28>(guest, arg)?;
    let Resource {
        domain,
        count,
        pad,
        frame,
        ..
    } = guest.read(arg)?;
    let (count, frame) = (count.get(), frame.get());
    if guest.width() == Width::Compat && count != 0 && start >= u64::from(count) {
        let list: U32 = guest.read(arg.checked_add(24).ok_or(Errno::EFAULT)?)?;
        if list.get() != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let end = frame.checked_add(count.into());
    if pad.get() != 0 || end.is_none_or(|end| end >> 32 != 0) {
        return Err(Errno::EINVAL);
    }
    Ok(match DomId(domain.get()) {
        DomId::SELF => Errno::ESRCH, // it wants an id
        _ => Errno::EPERM,
    })
}

/// What `acquire_resource` has in both layouts.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Resource {
    domain: U16,
    _kind: U16,
    _id: U32,
    count: U32,
    pad: U32,
    frame: U64,
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
const GET_SHARING_FREED_PAGES: MemoryOp = MemoryOp(18);
const GET_SHARING_SHARED_PAGES: MemoryOp = MemoryOp(19);
const ACCESS_OP: MemoryOp = MemoryOp(21);
