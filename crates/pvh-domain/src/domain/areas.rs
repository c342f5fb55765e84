//! The areas that a guest registers, by linear or by guest-physical address: runstate and secondary
//! time.

use pvh_abi::{Errno, Gpa, address::PAGE_SIZE};
use pvh_hypercall::{GuestIo, Width};
use pvh_memory::{Frames, GuestMemory};

use super::{Domain, Env, Now, VcpuData};
use crate::parts::{
    runstate::{self, RunState},
    spot::usable_frame,
    time::{TimeInfo, Wallclock},
};

/// An area at a linear address, and the guest-physical addresses that this led to when it was
/// registered.
///
/// Xen writes an area through the page tables that its vCPU has loaded when it writes. Here the
/// address is translated when it is registered, by the caller's tables; if it leads nowhere then,
/// by those of its vCPU's next calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    linear: u64,
    len_bytes: u64,
    /// For each page that the area may touch: where it lies in guest memory, once that is known.
    pages: [Option<Gpa>; 2],
}

impl Area {
    /// Makes an area of `len_bytes`; `None` for address 0.
    pub(super) fn new(io: &dyn GuestIo, linear: u64, len_bytes: u64) -> Option<Self> {
        let mut area = Self {
            linear,
            len_bytes,
            pages: [None; 2],
        };
        area.find(io);
        (linear != 0).then_some(area)
    }

    /// Makes an area at a guest-physical address, by the rules of Xen 4.18 and later; `None` for
    /// all ones, which takes a registration back. `width` is that of `shared_info`.
    ///
    /// # Errors
    ///
    /// In this order: `ENXIO` for an area that crosses a page or is not aligned to a word,
    /// `EINVAL` for a frame that is not RAM.
    pub(super) fn physical(
        memory: &dyn GuestMemory,
        gpa: u64,
        len_bytes: u64,
        width: Width,
    ) -> Result<Option<Self>, Errno> {
        if gpa == u64::MAX {
            return Ok(None);
        }
        let align = match width {
            Width::Compat => 4,
            Width::Native => 8,
        };
        let is_in_page = len_bytes <= PAGE_SIZE.saturating_sub(gpa % PAGE_SIZE);
        if !is_in_page || !Gpa(gpa).is_aligned(align) {
            return Err(Errno::ENXIO);
        }
        usable_frame(memory, gpa / PAGE_SIZE).ok_or(Errno::EINVAL)?;
        Ok(Some(Self {
            linear: gpa,
            len_bytes,
            pages: [Some(Gpa(gpa)), None],
        }))
    }

    /// Translates the pages that are not known yet; tells whether any of them became known.
    pub(super) fn find(&mut self, io: &dyn GuestIo) -> bool {
        let room = self.room();
        let next = self.linear.checked_add(room);
        let next = next.filter(|_| room < self.len_bytes);
        let [first, second] = &mut self.pages;
        let mut is_new = false;
        for (page, linear) in [(first, Some(self.linear)), (second, next)] {
            if page.is_none() {
                *page = linear.and_then(|linear| io.translate(linear));
                is_new |= page.is_some();
            }
        }
        is_new
    }

    /// Tells whether a page that the area touches is not known yet.
    const fn is_lost(&self) -> bool {
        let [first, second] = self.pages;
        first.is_none() || (second.is_none() && self.room() < self.len_bytes)
    }

    /// Writes bytes at an offset; writes where there is no RAM are dropped.
    pub(super) fn put(&self, memory: &dyn GuestMemory, offset: u64, bytes: &[u8]) {
        let room = self.room();
        let before = usize::try_from(room.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (here, there) = bytes.split_at(before.min(bytes.len()));
        let [first, second] = self.pages;
        let parts = [
            (first, offset, here),
            (second, offset.saturating_sub(room), there),
        ];
        for (page, offset, bytes) in parts {
            let at = page.and_then(|page| page.checked_add(offset));
            if let Some(at) = at.filter(|_| !bytes.is_empty()) {
                // The frame may not be RAM any more; then the write is dropped and the guest is not
                // told.
                let _ = memory.write(at, bytes);
            }
        }
    }

    /// How many bytes of the area lie in its first page.
    const fn room(&self) -> u64 {
        PAGE_SIZE.saturating_sub(self.linear % PAGE_SIZE)
    }
}

impl Domain {
    /// Changes the runstate of a vCPU, and writes it into its area. A vCPU that is down is offline,
    /// whatever `state` says.
    #[inline(never)]
    pub(super) fn change_runstate(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        state: RunState,
        now_ns: u64,
    ) {
        let is_up = self.set.is_up(vcpu).unwrap_or(false);
        let state = if is_up { state } else { RunState::Offline };
        let Some(data) = self.vcpus.get_mut(vcpu as usize) else {
            return;
        };
        if data.runstate.state() != state {
            data.runstate.change(state, now_ns);
            self.write_runstate(memory, vcpu);
        }
    }

    pub(super) fn write_runstate(&self, memory: &dyn Frames, vcpu: u32) {
        let width = self.shared_info.width();
        let Some(data) = self.vcpus.get(vcpu as usize) else {
            return;
        };
        // An area at a physical address has the update flag whatever the guest has asked for.
        let linear = || data.runstate_area.map(|area| (area, width));
        let has_flag = self.has_runstate_flag || data.physical_runstate.is_some();
        if let Some((area, width)) = data.physical_runstate.or_else(linear) {
            let put = |offset, bytes: &[u8]| area.put(memory, offset, bytes);
            let runstate = data.runstate.at_last_change();
            runstate::write_area(&runstate, width, has_flag, put);
        }
    }

    /// Writes the wallclock from the wall time at this moment.
    pub(super) fn write_wallclock(&mut self, memory: &dyn Frames, now: Now) {
        let wallclock = Wallclock::at_system_time_0(now.wall_ns, now.system_ns);
        self.shared_info.set_wallclock(memory, wallclock);
    }

    /// Writes the time of a vCPU: into its `vcpu_info`, then into its area.
    pub(super) fn write_time(&self, memory: &dyn Frames, vcpu: u32) {
        let Some(spot) = self.vcpu_infos.spot(&self.shared_info, vcpu) else {
            return;
        };
        let Some(version) = self.time.write(memory, spot) else {
            return;
        };
        let data = self.vcpus.get(vcpu as usize);
        if let Some(area) = data.and_then(VcpuData::written_time_area) {
            let put = |offset, bytes: &[u8]| area.put(memory, offset, bytes);
            self.time.write_area(version, put);
        }
    }

    /// Gives the time a new stamp, and writes it for every vCPU.
    ///
    /// Every version is odd before the first becomes even again: once a vCPU can read the new
    /// stamp, none can read the old one any more.
    pub(super) fn refresh_time(&mut self, memory: &dyn Frames, now: Now) {
        self.time = self.time.stamped_at(now.tsc);
        self.time_due_ns = now.system_ns.saturating_add(REFRESH_NS);
        let mut begun = Vec::with_capacity(self.vcpus.len());
        for (vcpu, data) in (0..).zip(&self.vcpus) {
            let spot = self.vcpu_infos.spot(&self.shared_info, vcpu);
            let during = spot.and_then(|spot| TimeInfo::begin_write(memory, spot));
            let area = data.written_time_area();
            if let (Some(area), Some(during)) = (area, during) {
                area.put(memory, 0, &during.to_le_bytes());
            }
            begun.extend(during.map(|during| (vcpu, area, during)));
        }
        for (vcpu, area, during) in begun {
            let Some(spot) = self.vcpu_infos.spot(&self.shared_info, vcpu) else {
                continue;
            };
            let version = self.time.end_write(memory, spot, during);
            if let Some(area) = area {
                let put = |offset, bytes: &[u8]| area.put(memory, offset, bytes);
                self.time.write_area(version, put);
            }
        }
    }

    /// Returns when the time has to be written anew, in ns of system time; `None` while the guest
    /// has no page to read it from.
    pub(super) fn time_due(&self) -> Option<u64> {
        let is_seen = self.shared_info.place().is_some() || self.vcpu_infos.has_registered();
        (self.refreshes && is_seen).then_some(self.time_due_ns)
    }

    /// Registers the runstate area of a vCPU. The first write uses the caller's layout, whatever
    /// the layout of `shared_info` is, and no update flag. `of_other` says that the vCPU is not the
    /// calling one: then the time since its state began is counted in.
    pub(super) fn register_runstate(
        &mut self,
        env: &Env<'_>,
        io: &dyn GuestIo,
        (vcpu, linear): (u32, u64),
        (width, of_other): (Width, bool),
    ) {
        let Some(data) = self.vcpus.get_mut(vcpu as usize) else {
            return;
        };
        data.runstate_area = Area::new(io, linear, RUNSTATE_BYTES);
        data.has_lost_area = true;
        if let Some(area) = data.runstate_area {
            let put = |offset, bytes: &[u8]| area.put(env.memory, offset, bytes);
            let counted = of_other.then(|| data.runstate.at(env.now.system_ns));
            let runstate = counted.unwrap_or_else(|| data.runstate.at_last_change());
            runstate::write_area(&runstate, width, false, put);
        }
    }

    pub(super) fn register_time(
        &mut self,
        env: &Env<'_>,
        io: &dyn GuestIo,
        (vcpu, linear): (u32, u64),
    ) {
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.time_area = Area::new(io, linear, TIME_BYTES);
            data.has_lost_area = true;
            self.write_time(env.memory, vcpu);
        }
    }

    /// Registers the runstate area of a vCPU at a guest-physical address, in the layout of the
    /// caller, or takes it back. It is written now if the vCPU is the calling one, else when its
    /// state changes.
    pub(super) fn register_physical_runstate(
        &mut self,
        memory: &dyn Frames,
        (vcpu, gpa): (u32, u64),
        (width, is_caller): (Width, bool),
    ) -> Result<(), Errno> {
        let align = self.shared_info.width();
        let area = Area::physical(memory, gpa, runstate_bytes(width), align)?;
        let data = self.vcpus.get_mut(vcpu as usize).ok_or(Errno::ENOENT)?;
        data.physical_runstate = area.map(|area| (area, width));
        if let Some(area) = area.filter(|_| is_caller) {
            let put = |offset, bytes: &[u8]| area.put(memory, offset, bytes);
            let runstate = data.runstate.at_last_change();
            runstate::write_area(&runstate, width, false, put);
        }
        Ok(())
    }

    /// Registers the time area of a vCPU at a guest-physical address, or takes it back.
    pub(super) fn register_physical_time(
        &mut self,
        memory: &dyn Frames,
        (vcpu, gpa): (u32, u64),
        is_caller: bool,
    ) -> Result<(), Errno> {
        let area = Area::physical(memory, gpa, TIME_BYTES, self.shared_info.width())?;
        let data = self.vcpus.get_mut(vcpu as usize).ok_or(Errno::ENOENT)?;
        data.physical_time = area;
        if let Some(area) = area.filter(|_| is_caller) {
            let put = |offset, bytes: &[u8]| area.put(memory, offset, bytes);
            self.time.write_area(0, put);
        }
        Ok(())
    }

    /// Translates the areas of the calling vCPU again if they led nowhere, and writes those that
    /// are found.
    #[cold]
    pub(super) fn translate_areas(&mut self, memory: &dyn Frames, io: &dyn GuestIo, vcpu: u32) {
        let Some(data) = self.vcpus.get_mut(vcpu as usize) else {
            return;
        };
        let found = |area: &mut Option<Area>| area.as_mut().is_some_and(|area| area.find(io));
        let runstate = found(&mut data.runstate_area);
        let time = found(&mut data.time_area);
        let areas = [data.runstate_area, data.time_area];
        data.has_lost_area = areas.iter().flatten().any(Area::is_lost);
        if runstate {
            self.write_runstate(memory, vcpu);
        }
        if time {
            self.write_time(memory, vcpu);
        }
    }
}

/// The bytes of a runstate in a caller's layout.
const fn runstate_bytes(width: Width) -> u64 {
    match width {
        Width::Compat => 44,
        Width::Native => RUNSTATE_BYTES,
    }
}

const RUNSTATE_BYTES: u64 = 48;
const TIME_BYTES: u64 = 32;
/// How old a stamp becomes: one second.
pub(super) const REFRESH_NS: u64 = 1_000_000_000;
