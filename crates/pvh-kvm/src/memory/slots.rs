//! Memory slots: which host memory a guest sees at which guest-physical address.
// UNSAFETY: KVM_SET_USER_MEMORY_REGION lets the guest write to memory of this process. The caller
// of kvm-ioctls' wrapper has to prove that the guest may.
#![expect(unsafe_code, reason = "memory handed to the guest")]

use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use pvh_abi::{GuestRange, address::PAGE_SIZE};

use super::pool::Pool;

/// Puts a page of the pool at a frame where the machine has no memory.
///
/// The machine must keep the pool alive; `FrameTable::attach` demands that of its caller.
pub(crate) fn show_page(
    machine: &VmFd,
    pool: &Pool,
    first_slot: u32,
    page: u32,
    gfn: u64,
) -> io::Result<()> {
    let place = pool.host_address(page).zip(gfn.checked_mul(PAGE_SIZE));
    let (userspace_addr, guest_phys_addr) = place.ok_or(io::ErrorKind::InvalidInput)?;
    let region = kvm_userspace_memory_region {
        slot: first_slot.saturating_add(page),
        flags: 0,
        guest_phys_addr,
        memory_size: PAGE_SIZE,
        userspace_addr,
    };
    // SAFETY: as in `VmWithRam::new`, which creates every machine that is passed to this function.
    // The page belongs to the pool of the machine's own `GuestRam` (`host_address` checks the
    // number), and the `Arc` stored beside the descriptor keeps it mapped. This crate accesses the
    // pool's bytes only through volatile slices and atomics.
    unsafe { machine.set_user_memory_region(region)? };
    Ok(())
}

/// Removes a page of the pool from the machine.
pub(crate) fn hide_page(machine: &VmFd, first_slot: u32, page: u32) -> io::Result<()> {
    let region = kvm_userspace_memory_region {
        slot: first_slot.saturating_add(page),
        ..kvm_userspace_memory_region::default()
    };
    // SAFETY: the wrapper demands that the guest may use the host range. KVM deletes a slot of
    // length 0, so this call gives the guest no memory.
    unsafe { machine.set_user_memory_region(region)? };
    Ok(())
}

/// Splits RAM ranges, each with its address in this process, into ranges that fit a memory slot.
pub(super) fn memory_slots(
    ranges: impl Iterator<Item = (GuestRange, u64)>,
) -> impl Iterator<Item = kvm_userspace_memory_region> {
    ranges.flat_map(|(range, host_start)| {
        let starts = (0..range.len_bytes).step_by(SLOT_MAX_BYTES);
        starts.map(move |offset| kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: range.start.0.saturating_add(offset),
            memory_size: range
                .len_bytes
                .saturating_sub(offset)
                .min(SLOT_MAX_BYTES as u64),
            userspace_addr: host_start.saturating_add(offset),
        })
    })
}

/// 4 TiB: KVM refuses a slot of 2^31 pages or more.
const SLOT_MAX_BYTES: usize = 1 << 42;

const _: () = assert!((SLOT_MAX_BYTES as u64) / PAGE_SIZE < 1 << 31);

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use pvh_abi::Gpa;

    use super::*;

    /// Returns the slots of RAM that starts at 0 and goes on at 4 GiB.
    fn slots(low_bytes: u64, high_bytes: u64) -> Vec<(u64, u64, u64)> {
        let ranges = [(0, low_bytes), (1 << 32, high_bytes)]
            .map(|(start, len_bytes)| GuestRange::new(Gpa(start), len_bytes));
        let ranges = ranges
            .into_iter()
            .map(|range| (range, range.start.0 + (1 << 60)));
        let slots = memory_slots(ranges).map(|slot| {
            let offset = slot.userspace_addr - (1 << 60);
            (slot.guest_phys_addr, offset, slot.memory_size)
        });
        slots.collect()
    }

    #[test]
    fn a_range_is_one_slot() {
        assert_eq!(slots(0x1000, 0), [(0, 0, 0x1000)]);
        assert_eq!(
            slots(0xFC00_0000, 0x1000),
            [(0, 0, 0xFC00_0000), (0x1_0000_0000, 0x1_0000_0000, 0x1000)]
        );
    }

    #[test]
    fn a_range_longer_than_a_slot_is_split() {
        // 9 TiB above 4 GiB: two slots of 4 TiB and one of 1 TiB.
        let high = slots(0xFC00_0000, 9 << 40)[1..].to_vec();
        let start = 0x1_0000_0000;
        assert_eq!(
            high,
            [
                (start, start, 4 << 40),
                (start + (4 << 40), start + (4 << 40), 4 << 40),
                (start + (8 << 40), start + (8 << 40), 1 << 40)
            ]
        );
    }
}
