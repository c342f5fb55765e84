//! `add_to_physmap` and `remove_from_physmap`, page by page.

use pvh_abi::{Errno, Gpa, address::PAGE_SIZE, memory::MapSpace};
use pvh_hypercall::group::MapRequest;
use pvh_memory::FrameError;

use super::MemoryCalls;

/// What lies at a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Held {
    SharedInfo,
    /// A frame of the grant table, by its index.
    Grant(u32),
    Ram,
    Nothing,
}

/// One page.
impl MemoryCalls<'_> {
    /// `add_to_physmap` for one page of the domain's own layout.
    pub(super) fn add(&mut self, request: &MapRequest) -> Result<(), Errno> {
        let MapRequest { idx, gpfn, .. } = *request;
        match request.space {
            MapSpace::SHARED_INFO if idx == 0 => self.put_shared_info(gpfn),
            MapSpace::GRANT_TABLE => self.put_grant(low_32(idx), gpfn),
            MapSpace::GMFN => match self.held(idx) {
                Held::SharedInfo => self.put_shared_info(gpfn),
                Held::Grant(index) => self.put_grant(index, gpfn),
                Held::Ram => self.move_page(idx, gpfn),
                Held::Nothing => Err(self.ops.xen.answers().moved_hole),
            },
            // A domain that is no hardware domain maps nothing of others.
            MapSpace::GMFN_FOREIGN => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `remove_from_physmap`: the page still counts as the domain's, though the guest cannot reach
    /// it.
    pub(super) fn remove(&mut self, gpfn: u64) -> Result<(), Errno> {
        if self.held(gpfn) == Held::Nothing {
            return Err(Errno::ENOENT);
        }
        self.take_back(gpfn);
        self.remove_frame(gpfn).map_err(errno)
    }

    /// What lies at a frame.
    pub(super) fn held(&self, gfn: u64) -> Held {
        let Some(at) = gfn.checked_mul(PAGE_SIZE).map(Gpa) else {
            return Held::Nothing;
        };
        if self.shared_info.place() == Some(at) {
            return Held::SharedInfo;
        }
        match self.grants.index_at(gfn) {
            Some(index) => Held::Grant(index),
            None if self.memory.is_ram(at, PAGE_SIZE) => Held::Ram,
            None => Held::Nothing,
        }
    }

    /// Takes back a shared page that is at a frame, with what it holds; RAM there is left alone.
    pub(super) fn take_back(&mut self, gfn: u64) {
        match self.held(gfn) {
            Held::SharedInfo => self.shared_info.unmap(self.memory),
            Held::Grant(_) => {
                self.grants.unmap_frame(self.memory, gfn);
            }
            Held::Ram | Held::Nothing => {}
        }
    }

    fn put_shared_info(&mut self, gpfn: u64) -> Result<(), Errno> {
        // At its own frame again: a copy onto itself could undo what a vCPU writes meanwhile.
        if self.held(gpfn) == Held::SharedInfo {
            return Ok(());
        }
        let before = self.shared_info.place();
        self.make_room(gpfn)?;
        self.shared_info.map(self.memory, gpfn)?;
        self.leave(before)
    }

    fn put_grant(&mut self, index: u32, gpfn: u64) -> Result<(), Errno> {
        self.grants.grow_to(index)?;
        if self.held(gpfn) == Held::Grant(index) {
            return Ok(());
        }
        let before = self.grants.place_of(index);
        self.make_room(gpfn)?;
        self.grants.map_frame(self.memory, index.into(), gpfn)?;
        self.leave(before)
    }

    /// Moves a page of RAM.
    fn move_page(&mut self, from: u64, to: u64) -> Result<(), Errno> {
        if from == to {
            return Ok(());
        }
        self.make_room(to)?;
        let place = |gfn: u64| gfn.checked_mul(PAGE_SIZE).map(Gpa).ok_or(Errno::EINVAL);
        let mut page = [0; PAGE_BYTES];
        let moved = self
            .memory
            .read(place(from)?, &mut page)
            .and_then(|()| self.memory.write(Gpa(to.saturating_mul(PAGE_SIZE)), &page));
        moved.map_err(|_| Errno::EINVAL)?;
        self.leave(Some(place(from)?))
    }

    /// Makes a frame one that a page can be put at: RAM that is there is freed, a shared page taken
    /// back, and a hole gets a page.
    fn make_room(&mut self, gfn: u64) -> Result<(), Errno> {
        match self.held(gfn) {
            Held::Nothing => self.add_frame(gfn).map_err(errno)?,
            Held::Ram => self.ops.pages = self.ops.pages.saturating_sub(1),
            Held::SharedInfo | Held::Grant(_) => self.take_back(gfn),
        }
        self.ops.max_gfn = self.ops.max_gfn.max(gfn);
        Ok(())
    }

    /// Leaves a hole where a page was.
    fn leave(&self, before: Option<Gpa>) -> Result<(), Errno> {
        match before {
            Some(at) => self.remove_frame(at.0 / PAGE_SIZE).map_err(errno),
            None => Ok(()),
        }
    }
}

/// The error that a guest reads for a refusal.
fn errno(error: FrameError) -> Errno {
    match error {
        FrameError::OutOfReach { gfn: LOCAL_APIC } => Errno::EPERM,
        FrameError::Exhausted { .. } | FrameError::Backend { .. } => Errno::ENOMEM,
        _ => Errno::EINVAL,
    }
}

/// The low half: Xen takes the index of a grant frame as 32 bits.
fn low_32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Where local APICs answer: Xen has a page of its own there.
const LOCAL_APIC: u64 = 0xFEE00;
const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_error_has_its_errno() {
        for (error, want) in [
            (FrameError::OutOfReach { gfn: LOCAL_APIC }, Errno::EPERM),
            (FrameError::OutOfReach { gfn: 5 }, Errno::EINVAL),
            (FrameError::Exhausted { limit: 1 }, Errno::ENOMEM),
            (FrameError::Backend { gfn: 5 }, Errno::ENOMEM),
            (FrameError::Present { gfn: 5 }, Errno::EINVAL),
        ] {
            assert_eq!(errno(error), want, "{error}");
        }
    }
}
