//! Linear addresses by the manuals: one loop over levels, no tables made beforehand.

use pvh_abi::Gpa;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearFault, MemoryError, PagingMode, PagingPolicy,
    PagingState,
};

use crate::SparseMemory;

pub(super) struct Model<'a> {
    pub(super) memory: &'a SparseMemory,
    pub(super) state: PagingState,
    pub(super) policy: PagingPolicy,
}

/// An entry on the way down.
#[derive(Clone, Copy)]
struct Step {
    slot: u64,
    entry: u64,
    has_rights: bool,
}

impl Model<'_> {
    /// Moves `len` bytes at `at`, a page at a time.
    pub(super) fn copy(
        &self,
        at: u64,
        len: usize,
        access: Access,
        mut piece: impl FnMut(Gpa, usize, usize) -> Result<(), MemoryError>,
    ) -> Result<(), LinearFault> {
        let mut done = 0;
        let mut here = at;
        while done < len {
            let in_page = usize::try_from(4096 - here % 4096).unwrap_or(0);
            let step = in_page.min(len - done);
            let target = self.translate(here, access)?;
            let at = LinearAddress(here);
            let moved = piece(target, done, done + step);
            moved.map_err(|_| LinearFault::NotRam { at, target })?;
            done += step;
            if done < len {
                let next = here.checked_add(step as u64);
                here = next.ok_or(LinearFault::PastTheEnd { at })?;
            }
        }
        Ok(())
    }

    pub(super) fn translate(&self, linear: u64, access: Access) -> Result<Gpa, LinearFault> {
        let at = LinearAddress(linear);
        let mode = self.state.mode();
        let levels: &[(u32, u32)] = match mode {
            PagingMode::Unpaged => return Ok(Gpa(linear)),
            PagingMode::TwoLevel => &[(22, 10), (12, 10)],
            PagingMode::Pae => &[(30, 2), (21, 9), (12, 9)],
            _ => &[(39, 9), (30, 9), (21, 9), (12, 9)],
        };
        if mode == PagingMode::Pae && linear >= 1 << 32 {
            return Err(LinearFault::PastTheEnd { at });
        }
        let mut table = match mode {
            PagingMode::TwoLevel => self.state.cr3 & 0xffff_f000,
            PagingMode::Pae => self.state.cr3 & 0xffff_ffe0,
            _ => self.state.cr3 & !0xfff,
        };
        let mut steps: Vec<Step> = Vec::new();
        for (&(shift, width), level) in levels.iter().zip((1..=levels.len()).rev()) {
            let level = u8::try_from(level).unwrap_or(0);
            let index = linear >> shift & ((1 << width) - 1);
            let size = if mode == PagingMode::TwoLevel { 4 } else { 8 };
            let slot = table | (index * size);
            let entry = self.load(slot).ok_or(LinearFault::TableNotRam {
                at,
                level,
                entry: Gpa(slot),
            })?;
            if entry & 1 == 0 {
                return Err(LinearFault::NotPresent { at, level });
            }
            let fault = |bits| LinearFault::ReservedBits { at, level, bits };
            let refuse = |bits: u64| if bits == 0 { Ok(()) } else { Err(fault(bits)) };
            refuse(entry & self.reserved(level))?;
            let has_rights = !(mode == PagingMode::Pae && level == 3);
            steps.push(Step {
                slot,
                entry,
                has_rights,
            });
            if level == 1 || self.is_large(level, entry) {
                if level > 1 {
                    refuse(entry & self.reserved_if_large(level))?;
                }
                self.check_rights(at, &steps, access)?;
                self.mark(&steps, access);
                return Ok(Gpa(
                    self.page(level, shift, entry) | linear & ((1 << shift) - 1)
                ));
            }
            table = entry & 0x000f_ffff_ffff_f000;
        }
        unreachable!("level 1 maps a page");
    }

    fn load(&self, slot: u64) -> Option<u64> {
        if slot >> self.policy.address_bits != 0 {
            return None;
        }
        let len = match self.state.mode() {
            PagingMode::TwoLevel => 4,
            _ => 8,
        };
        let mut bytes = [0; 8];
        self.memory.read(Gpa(slot), &mut bytes[..len]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn is_large(&self, level: u8, entry: u64) -> bool {
        let can_be = match (self.state.mode(), level) {
            (PagingMode::TwoLevel, 2) => self.state.cr4 & 1 << 4 != 0,
            (PagingMode::FourLevel, 3) => self.policy.has_gib_pages,
            (_, 2) => true,
            _ => false,
        };
        can_be && entry & 1 << 7 != 0
    }

    fn reserved(&self, level: u8) -> u64 {
        let mode = self.state.mode();
        if mode == PagingMode::TwoLevel {
            return 0;
        }
        let mut bits = range(u32::from(self.policy.address_bits), 51);
        if self.state.efer & 1 << 11 == 0 {
            bits |= 1 << 63;
        }
        match (mode, level) {
            (PagingMode::Pae, 3) => bits |= range(1, 2) | range(5, 8) | range(52, 63),
            (PagingMode::Pae, _) => bits |= range(52, 62),
            (_, 4) if self.policy.is_amd => bits |= range(7, 8),
            (_, 4) => bits |= 1 << 7,
            (_, 3) if !self.policy.has_gib_pages => bits |= 1 << 7,
            _ => {}
        }
        bits
    }

    fn reserved_if_large(&self, level: u8) -> u64 {
        match (self.state.mode(), level) {
            (PagingMode::TwoLevel, _) if !self.policy.has_pse36 => range(13, 21),
            (PagingMode::TwoLevel, _) => {
                // bits 20:13 are address bits 39:32
                let folded = (32..40).filter(|&bit| bit >= u32::from(self.policy.address_bits));
                folded.fold(1 << 21, |bits, bit| bits | 1 << (bit - 19))
            }
            (_, 3) => range(13, 29),
            _ => range(13, 20),
        }
    }

    fn page(&self, level: u8, shift: u32, entry: u64) -> u64 {
        let base = entry & 0x000f_ffff_ffff_f000 & !((1 << shift) - 1);
        let is_folded = self.state.mode() == PagingMode::TwoLevel && level == 2;
        match is_folded && self.policy.has_pse36 {
            true => base | (entry >> 13 & 0xff) << 32,
            false => base,
        }
    }

    fn check_rights(
        &self,
        at: LinearAddress,
        steps: &[Step],
        access: Access,
    ) -> Result<(), LinearFault> {
        let state = &self.state;
        let all = |bit: u64| {
            let mut rights = steps.iter().filter(|step| step.has_rights);
            rights.all(|step| step.entry & bit != 0)
        };
        let is_stopped = access == Access::Write && state.cr0 & 1 << 16 != 0;
        if all(4) {
            let is_open = state.rflags & 1 << 18 != 0;
            if state.cr4 & 1 << 21 != 0 && !is_open {
                return Err(LinearFault::UserPage { at });
            }
            if state.cr4 & 1 << 22 != 0 && state.mode() == PagingMode::FourLevel {
                let leaf = steps.last().map_or(0, |step| step.entry);
                let key = leaf >> 59 & 15;
                let rights = u64::from(state.pkru) >> (2 * key) & 3;
                if rights & 1 != 0 || is_stopped && rights & 2 != 0 {
                    let key = u8::try_from(key).unwrap_or(0);
                    return Err(LinearFault::ProtectionKey { at, key });
                }
            }
        }
        if is_stopped && !all(2) {
            return Err(LinearFault::ReadOnly { at });
        }
        Ok(())
    }

    /// Sets accessed and dirty bits from the page up, each in an entry that is as it was on the way down.
    fn mark(&self, steps: &[Step], access: Access) {
        let mut bits = match access {
            Access::Read => 0x20,
            Access::Write => 0x60,
        };
        for step in steps.iter().rev().filter(|step| step.has_rights) {
            let is_set = step.entry & bits == bits;
            if !is_set && self.load(step.slot) == Some(step.entry) {
                let new = (step.entry | bits).to_le_bytes();
                let len = match self.state.mode() {
                    PagingMode::TwoLevel => 4,
                    _ => 8,
                };
                let written = self.memory.write(Gpa(step.slot), &new[..len]);
                written.expect("it was read from there");
            }
            bits = 0x20;
        }
    }
}

/// Bits `low` to `high`, both included.
fn range(low: u32, high: u32) -> u64 {
    (low..=high).fold(0, |bits, bit| bits | 1 << bit)
}
