//! Giving guest RAM to a virtual machine.
// UNSAFETY: KVM_SET_USER_MEMORY_REGION lets the guest write to memory of this process, and its wrapper
// leaves the proof that it may to the caller.
#![expect(unsafe_code, reason = "memory handed to the guest")]

use std::{io, sync::Arc};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use pvh_abi::address::PAGE_SIZE;

use crate::GuestRam;

/// A VM descriptor and the RAM its guest uses: whoever holds the one holds the other.
#[derive(Debug)]
pub(crate) struct VmWithRam {
    // Before `ram`: fields end in this order, and the descriptor has to go first.
    fd: VmFd,
    ram: Arc<GuestRam>,
}

impl VmWithRam {
    /// Makes every range of `ram` visible to the guest of `fd`.
    pub(crate) fn new(fd: VmFd, ram: Arc<GuestRam>) -> io::Result<Self> {
        for (slot, region) in (0..).zip(memory_slots(&ram)) {
            let region = kvm_userspace_memory_region { slot, ..region };
            // SAFETY: the wrapper demands that the host range is mapped, and stays ours and unused by Rust
            // references, for as long as the guest can run. It is a part of a mapping of `ram`, which is
            // kept mapped by the `Arc` that is stored beside `fd`; the descriptor is private, so that
            // vCPUs are only made by `Vcpu`, which holds this struct alive. `GuestRam` hands out no reference
            // into its memory.
            unsafe { fd.set_user_memory_region(region)? };
        }
        Ok(Self { fd, ram })
    }

    pub(crate) const fn fd(&self) -> &VmFd {
        &self.fd
    }

    pub(crate) const fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }
}

/// Returns how many memory slots `ram` takes.
pub(crate) fn slot_count(ram: &GuestRam) -> usize {
    memory_slots(ram).count()
}

/// Cuts RAM into ranges that fit a memory slot.
fn memory_slots(ram: &GuestRam) -> impl Iterator<Item = kvm_userspace_memory_region> {
    ram.host_ranges().flat_map(|(range, host_start)| {
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
