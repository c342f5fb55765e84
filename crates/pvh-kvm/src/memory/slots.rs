//! Giving guest RAM to a virtual machine.
// UNSAFETY: KVM_SET_USER_MEMORY_REGION lets the guest write to memory of this process, and its wrapper
// leaves the proof that it may to the caller.
#![expect(unsafe_code, reason = "memory handed to the guest")]

use std::{io, sync::Arc};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use pvh_abi::{GuestRange, address::PAGE_SIZE};

use super::frames::Pool;
use crate::GuestRam;

/// A VM descriptor and the RAM its guest uses: whoever holds the one holds the other.
#[derive(Debug)]
pub(crate) struct VmWithRam {
    // Before `ram`: fields end in this order, and the descriptor has to go first.
    fd: Arc<VmFd>,
    ram: Arc<GuestRam>,
}

impl VmWithRam {
    /// Makes every range of `ram` visible to the guest of `fd`.
    pub(crate) fn new(fd: VmFd, ram: Arc<GuestRam>) -> io::Result<Self> {
        for (slot, region) in (0..).zip(memory_slots(ram.host_ranges())) {
            let region = kvm_userspace_memory_region { slot, ..region };
            // SAFETY: the wrapper demands that the host range is mapped, and stays ours and unused by Rust
            // references, for as long as the guest can run. It is a part of a mapping of `ram`, which is
            // kept mapped by the `Arc` that is stored beside `fd`; the descriptor is private, so that
            // vCPUs are only made by `Vcpu`, which holds this struct alive. `GuestRam` hands out no reference
            // into its memory.
            unsafe { fd.set_user_memory_region(region)? };
        }
        let fd = Arc::new(fd);
        let first_slot = u32::try_from(slot_count(&ram)).unwrap_or(u32::MAX);
        ram.frames().attach(&fd, first_slot)?;
        Ok(Self { fd, ram })
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    pub(crate) const fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }
}

/// Puts a page of the pool at a frame where the machine has no memory.
///
/// The machine must be one that keeps the pool: [`FrameTable::attach`](super::frames::FrameTable::attach) says so.
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
    // SAFETY: as in `VmWithRam::new`, which alone makes the machines that get here: the page is one of the pool of the
    // machine's own `GuestRam`, by the test in `host_address`, and is kept mapped by the `Arc` stored beside the
    // descriptor. The pool's bytes are accessed through volatile slices and atomics only.
    unsafe { machine.set_user_memory_region(region)? };
    Ok(())
}

/// Takes a page of the pool away from the machine.
pub(crate) fn hide_page(machine: &VmFd, first_slot: u32, page: u32) -> io::Result<()> {
    let region = kvm_userspace_memory_region {
        slot: first_slot.saturating_add(page),
        ..kvm_userspace_memory_region::default()
    };
    // SAFETY: the wrapper demands that the host range may be given to the guest: a slot of length 0 is
    // deleted, and its guest has less memory afterwards, not more.
    unsafe { machine.set_user_memory_region(region)? };
    Ok(())
}

/// Returns how many memory slots `ram` takes.
pub(crate) fn slot_count(ram: &GuestRam) -> usize {
    memory_slots(ram.host_ranges()).count()
}

/// Cuts RAM ranges, each with its address in this process, into ranges that fit a memory slot.
fn memory_slots(
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

    /// The slots of RAM from 0 on, and from 4 GiB on.
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
    fn a_range_longer_than_kvm_takes_is_cut() {
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
