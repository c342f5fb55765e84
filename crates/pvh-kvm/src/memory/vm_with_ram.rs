//! A machine together with the RAM its guest uses.
// UNSAFETY: KVM_SET_USER_MEMORY_REGION lets the guest write to memory of this process. The caller
// of kvm-ioctls' wrapper has to prove that the guest may.
#![expect(unsafe_code, reason = "memory handed to the guest")]

use std::{io, sync::Arc};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

use super::{ram::GuestRam, slots::memory_slots};

/// A VM descriptor and the RAM its guest uses. The RAM lives at least as long as the descriptor.
#[derive(Debug)]
pub(crate) struct VmWithRam {
    // Declared before `ram`: Rust drops fields in this order, and the descriptor has to close
    // first.
    fd: Arc<VmFd>,
    ram: Arc<GuestRam>,
}

impl VmWithRam {
    /// Gives the guest of `fd` every range of `ram`.
    pub(crate) fn new(fd: VmFd, ram: Arc<GuestRam>) -> io::Result<Self> {
        for (slot, region) in (0..).zip(memory_slots(ram.host_ranges())) {
            let region = kvm_userspace_memory_region { slot, ..region };
            // SAFETY: the wrapper demands that the host range is mapped, stays ours, and is not
            // used through Rust references for as long as the guest can run. The range is part of a
            // mapping of `ram`, which the `Arc` stored beside `fd` keeps mapped. The descriptor is
            // private, so only `Vcpu` creates vCPUs, and it keeps this struct alive. `GuestRam`
            // hands out no reference into its memory.
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

/// Returns how many memory slots `ram` needs.
pub(crate) fn slot_count(ram: &GuestRam) -> usize {
    memory_slots(ram.host_ranges()).count()
}
