//! The `shared_info` page (xen/include/public/xen.h), in both widths.

use pvh_abi::{Errno, Gpa};
use pvh_hypercall::Width;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

use crate::parts::{
    spot::{Spot, usable_frame},
    time::{Wallclock, version_after, version_during},
};

/// How many vCPUs have a `vcpu_info` inside `shared_info`.
#[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
pub const VCPUS_IN_SHARED_INFO: u32 = 32;

/// The `shared_info` page of a domain.
///
/// The page exists from the domain's creation on, and events are posted into it before the guest
/// maps it: until then the domain keeps the page itself. Mapping it copies what it holds to the
/// guest's frame, which is the page from then on.
///
/// A frame in a hole works as one in RAM does once the embedder's memory has a page there;
/// [`map`](Self::map) refuses a frame that has none.
#[derive(Debug)]
pub struct SharedInfo {
    page: Page,
    width: Width,
    wallclock: Wallclock,
}

#[derive(Debug)]
enum Page {
    /// Not mapped: the domain keeps the bytes, at address 0 of a separate memory.
    Own(VecMemory),
    /// Mapped by the guest.
    Guest(Gpa),
}

impl Default for SharedInfo {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedInfo {
    /// Makes the page of a new domain: zeros, 64-bit, mapped nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self {
            page: Page::Own(own_page(&[0; PAGE_BYTES])),
            width: Width::Native,
            wallclock: Wallclock::default(),
        }
    }

    /// Returns the layout in force, which is `vcpu_info`'s too: that of 64-bit callers has 64-bit
    /// words of events and 4096 ports, that of 32-bit callers 32-bit words and 1024 ports.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Returns where the guest has mapped the page.
    #[must_use]
    pub const fn place(&self) -> Option<Gpa> {
        match self.page {
            Page::Own(_) => None,
            Page::Guest(at) => Some(at),
        }
    }

    /// Latches the layout; when it changes, the wallclock is written at its new place. Nothing else
    /// is moved: event words and `vcpu_info` are read in the new layout as they are.
    pub fn latch(&mut self, memory: &dyn GuestMemory, width: Width) {
        if self.width != width {
            self.width = width;
            self.set_wallclock(memory, self.wallclock);
        }
    }

    /// Gives the page a frame of the guest, or moves it to another: what it holds is copied. At the
    /// frame where it is already, nothing happens.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a frame that is not RAM; the page stays where it was then.
    pub fn map(&mut self, memory: &dyn GuestMemory, gfn: u64) -> Result<(), Errno> {
        let at = usable_frame(memory, gfn).ok_or(Errno::EINVAL)?;
        if self.place() == Some(at) {
            return Ok(()); // a copy onto itself could undo what another vCPU writes meanwhile
        }
        let contents = self.contents(memory).map_err(|_| Errno::EINVAL)?;
        memory.write(at, &contents).map_err(|_| Errno::EINVAL)?;
        self.page = Page::Guest(at);
        Ok(())
    }

    /// Takes the page away from the guest, with what it holds; the guest's frame keeps a copy.
    pub fn unmap(&mut self, memory: &dyn GuestMemory) {
        let contents = self.contents(memory).unwrap_or([0; PAGE_BYTES]);
        self.page = Page::Own(own_page(&contents));
    }

    /// Writes the wallclock: its version odd, the fields, its version even.
    pub fn set_wallclock(&mut self, memory: &dyn GuestMemory, wallclock: Wallclock) {
        self.wallclock = wallclock;
        let (at, high_at) = wallclock_offsets(self.width);
        let (version, low, high) = (self.at(at), self.at(at.saturating_add(4)), self.at(high_at));
        let Some(before) = version.word(memory, WordOp::Load) else {
            return;
        };
        let during = version_during(before);
        version.word(memory, WordOp::Swap(during));
        let [sec, sec_hi] = wallclock.second_words();
        low.put_words(memory, &[sec, wallclock.nanoseconds]);
        high.put_words(memory, &[sec_hi]);
        version.word(memory, WordOp::Swap(version_after(during)));
    }

    /// The place `offset` bytes into the page.
    pub(crate) fn at(&self, offset: u64) -> Spot<'_> {
        match &self.page {
            Page::Own(page) => Spot::own(page, Gpa(offset)),
            Page::Guest(at) => Spot::guest(*at).offset(offset),
        }
    }

    /// The 32-bit word that holds a port's pending bit, or `None` past the layout's last port.
    pub(crate) fn pending_word(&self, port: u32) -> Option<Spot<'_>> {
        self.event_word(PENDING_OFFSET, port)
    }

    /// The 32-bit word that holds a port's mask bit, or `None` past the layout's last port.
    pub(crate) fn mask_word(&self, port: u32) -> Option<Spot<'_>> {
        self.event_word(mask_offset(self.width), port)
    }

    fn event_word(&self, array: u64, port: u32) -> Option<Spot<'_>> {
        let word = u64::from(port / 32).saturating_mul(4);
        (port < max_ports(self.width)).then(|| self.at(array.saturating_add(word)))
    }

    fn contents(&self, memory: &dyn GuestMemory) -> Result<[u8; PAGE_BYTES], MemoryError> {
        let mut bytes = [0; PAGE_BYTES];
        self.at(0).read(memory, &mut bytes)?;
        Ok(bytes)
    }
}

/// How many bits a word of events has, and how many words the selector reaches.
pub(crate) const fn word_bits(width: Width) -> u32 {
    match width {
        Width::Compat => 32,
        Width::Native => 64,
    }
}

/// How many ports the two-level ABI has.
pub(crate) const fn max_ports(width: Width) -> u32 {
    match width {
        Width::Compat => 1024,
        Width::Native => 4096,
    }
}

/// The offset of `evtchn_mask` in `shared_info`; `evtchn_pending` is at 2048 in both layouts.
const fn mask_offset(width: Width) -> u64 {
    match width {
        Width::Compat => 2176,
        Width::Native => 2560,
    }
}

/// The offsets of `wc_version` and of `wc_sec_hi`.
const fn wallclock_offsets(width: Width) -> (u64, u64) {
    match width {
        Width::Compat => (2304, 2340),
        Width::Native => (3072, 3084),
    }
}

fn own_page(bytes: &[u8; PAGE_BYTES]) -> VecMemory {
    VecMemory::from_bytes(Gpa(0), bytes)
}

const PENDING_OFFSET: u64 = 2048;
const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
