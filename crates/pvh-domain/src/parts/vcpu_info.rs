//! `vcpu_info` (xen/include/public/xen.h): the structure that notifies each vCPU, and where it
//! lies.

use pvh_abi::{Errno, Gpa, address::PAGE_SIZE, vcpu::RegisterVcpuInfo};
use pvh_hypercall::{Width, XenVersion};
use pvh_memory::{GuestMemory, WordOp};

use crate::parts::{
    shared_info::{SharedInfo, VCPUS_IN_SHARED_INFO},
    spot::{Spot, usable_frame},
};

/// The size of a `vcpu_info` in both layouts.
pub const VCPU_INFO_BYTES: u64 = 64;

/// Where every vCPU's `vcpu_info` lies: inside `shared_info` for the first 32, until
/// `VCPUOP_register_vcpu_info` moves it.
///
/// A later vCPU has none before that. Xen posts its events into a dummy that no guest sees; here
/// they are dropped. The guest cannot tell the difference, for registration marks everything
/// pending.
#[derive(Clone, Debug)]
pub struct VcpuInfos {
    registered: Vec<Option<Gpa>>,
    xen: XenVersion,
}

impl VcpuInfos {
    /// Makes them for `vcpus` vCPUs, none registered.
    #[must_use]
    pub fn new(vcpus: u32) -> Self {
        Self {
            registered: vec![None; vcpus as usize],
            xen: XenVersion::V4_17,
        }
    }

    /// Chooses the Xen whose answers the guest gets; 4.17 if not called.
    #[must_use]
    pub fn of_version(self, xen: XenVersion) -> Self {
        Self { xen, ..self }
    }

    /// `VCPUOP_register_vcpu_info`: moves a vCPU's `vcpu_info` into a frame of the guest.
    ///
    /// What it held is copied, or zeros if it had none. Then the selector gets all its bits, and
    /// `evtchn_upcall_pending` is set last. Answers whether that was clear, so that an upcall has
    /// to follow; the caller refreshes the time in it.
    ///
    /// `is_self_or_down` says that the vCPU is the calling one, or down.
    ///
    /// # Errors
    ///
    /// In this order: `ENOENT` for a vCPU that does not exist; `ENXIO` for 64 bytes that cross a
    /// page or are not aligned to 8 (4 with 32-bit shared info); `EINVAL` for a second
    /// registration, a vCPU that is up and not the caller's, and a frame that is not RAM.
    ///
    /// From Xen 4.18 in this order: `ENOENT`; `EINVAL` for an offset that is not in the page;
    /// `EBUSY` for a second registration; `ENXIO`; `EINVAL` for a frame that is not RAM. The
    /// `vcpu_info` of a vCPU that runs can be registered; Xen pauses the vCPU for the copy, here it
    /// runs on, so that what it clears in the old place meanwhile is pending again in the new one.
    pub fn register(
        &mut self,
        memory: &dyn GuestMemory,
        shared_info: &SharedInfo,
        vcpu: u32,
        request: &RegisterVcpuInfo,
        is_self_or_down: bool,
    ) -> Result<bool, Errno> {
        let slot = self.registered.get(vcpu as usize).ok_or(Errno::ENOENT)?;
        let offset = u64::from(request.offset.get());
        let align = match shared_info.width() {
            Width::Compat => 4,
            Width::Native => 8,
        };
        let is_misplaced = offset > LAST_OFFSET || !Gpa(offset).is_aligned(align);
        if self.xen.answers().is_vcpu_info_an_area {
            check_area(offset, slot.is_some(), is_misplaced)?;
        } else if is_misplaced {
            return Err(Errno::ENXIO);
        } else if slot.is_some() || !is_self_or_down {
            return Err(Errno::EINVAL);
        }
        let frame = usable_frame(memory, request.mfn.get()).ok_or(Errno::EINVAL)?;
        let at = frame.checked_add(offset).ok_or(Errno::EINVAL)?;
        let mut bytes = [0; 64];
        if let Some(old) = self.spot(shared_info, vcpu) {
            let read = old.read(memory, &mut bytes);
            read.map_err(|_| Errno::EINVAL)?;
        }
        memory.write(at, &bytes).map_err(|_| Errno::EINVAL)?;
        if let Some(slot) = self.registered.get_mut(vcpu as usize) {
            *slot = Some(at);
        }
        let words = selector_words(shared_info.width());
        let selector = Spot::guest(at).offset(selector_offset(shared_info.width()));
        selector.put_words(memory, words);
        Ok(self.mark_upcall(memory, shared_info, vcpu))
    }

    /// Takes all registrations back, as a soft reset does: what the places held is not copied.
    pub fn unregister_all(&mut self) {
        self.registered.fill(None);
    }

    /// Tells whether any vCPU's `vcpu_info` has been registered.
    pub(crate) fn has_registered(&self) -> bool {
        self.registered.iter().any(Option::is_some)
    }

    /// Tells whether a vCPU has a `vcpu_info` that the guest can see.
    #[must_use]
    pub fn is_usable(&self, vcpu: u32) -> bool {
        let registered = self.registered.get(vcpu as usize);
        registered.is_some_and(|place| place.is_some() || vcpu < VCPUS_IN_SHARED_INFO)
    }

    /// Tells whether a vCPU's upcall flag is set: bit 0 of `evtchn_upcall_pending`.
    pub fn is_upcall_pending(
        &self,
        memory: &dyn GuestMemory,
        shared_info: &SharedInfo,
        vcpu: u32,
    ) -> bool {
        let spot = self.spot(shared_info, vcpu);
        spot.is_some_and(|spot| spot.has_bit(memory, UPCALL_PENDING_BIT))
    }

    /// Clears `evtchn_upcall_mask`, as `SCHEDOP_block` does; nothing else here reads or writes it.
    pub fn clear_upcall_mask(&self, memory: &dyn GuestMemory, shared_info: &SharedInfo, vcpu: u32) {
        if let Some(spot) = self.spot(shared_info, vcpu) {
            spot.word(memory, WordOp::And(!UPCALL_MASK_BYTE));
        }
    }

    /// Returns where a vCPU's `vcpu_info` lies.
    #[must_use]
    pub fn spot<'page>(&self, shared_info: &'page SharedInfo, vcpu: u32) -> Option<Spot<'page>> {
        if let Some(at) = *self.registered.get(vcpu as usize)? {
            return Some(Spot::guest(at));
        }
        let offset = u64::from(vcpu).saturating_mul(VCPU_INFO_BYTES);
        (vcpu < VCPUS_IN_SHARED_INFO).then(|| shared_info.at(offset))
    }

    /// Sets `evtchn_upcall_pending` and tells whether it was clear.
    pub(crate) fn mark_upcall(
        &self,
        memory: &dyn GuestMemory,
        shared_info: &SharedInfo,
        vcpu: u32,
    ) -> bool {
        let spot = self.spot(shared_info, vcpu);
        spot.is_some_and(|spot| spot.set_bit(memory, UPCALL_PENDING_BIT))
    }

    /// Sets a bit of `evtchn_pending_sel` and tells whether it was clear.
    pub(crate) fn select(
        &self,
        memory: &dyn GuestMemory,
        shared_info: &SharedInfo,
        vcpu: u32,
        bit: u32,
    ) -> bool {
        let word = u64::from(bit / 32).saturating_mul(4);
        let offset = selector_offset(shared_info.width()).saturating_add(word);
        let spot = self.spot(shared_info, vcpu);
        spot.is_some_and(|spot| spot.offset(offset).set_bit(memory, bit % 32))
    }
}

/// The rules of Xen 4.18 and later for a `vcpu_info`, which is an area like others.
const fn check_area(offset: u64, is_again: bool, is_misplaced: bool) -> Result<(), Errno> {
    if offset >= PAGE_SIZE {
        Err(Errno::EINVAL)
    } else if is_again {
        Err(Errno::EBUSY)
    } else if is_misplaced {
        Err(Errno::ENXIO)
    } else {
        Ok(())
    }
}

const fn selector_offset(width: Width) -> u64 {
    match width {
        Width::Compat => 4,
        Width::Native => 8,
    }
}

const fn selector_words(width: Width) -> &'static [u32] {
    match width {
        Width::Compat => &[u32::MAX],
        Width::Native => &[u32::MAX; 2],
    }
}

/// The last place in a page where 64 bytes fit.
const LAST_OFFSET: u64 = 4032;
const UPCALL_PENDING_BIT: u32 = 0;
/// Byte 1 of the first word.
const UPCALL_MASK_BYTE: u32 = 0xff00;

#[cfg(test)]
mod tests;
