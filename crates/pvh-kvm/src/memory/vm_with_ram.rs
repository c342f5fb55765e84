//! A machine and the RAM its guest uses, kept together.
// UNSAFETY: KVM_SET_USER_MEMORY_REGION lets the guest write to memory of this process, and its wrapper
// leaves the proof that it may to the caller.
#![expect(unsafe_code, reason = "memory handed to the guest")]

use std::{io, sync::Arc};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

use super::{ram::GuestRam, slots::memory_slots};

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

/// Returns how many memory slots `ram` takes.
pub(crate) fn slot_count(ram: &GuestRam) -> usize {
    memory_slots(ram.host_ranges()).count()
}
