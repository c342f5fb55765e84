//! A second, slow page-table walk, written from the manuals, for tests of the real one.
//!
//! It is one loop over the levels. Numbers go in, a number or a fault comes out; no code of
//! pvh-memory's walk is used.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "shifts and sums of page-table fields stay within 64 bits"
)]

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, PagingPolicy, PagingState};

/// The registers and CPU features that a walk depends on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Paging {
    /// CR0: PG and WP count.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4: PSE, PAE, SMAP and PKE count.
    pub cr4: u64,
    /// EFER: LMA and NXE count.
    pub efer: u64,
    /// RFLAGS: AC counts.
    pub rflags: u64,
    /// PKRU.
    pub pkru: u32,
    /// The width of physical addresses in bits.
    pub address_bits: u8,
    /// Whether the CPU has AMD's reserved bits.
    pub is_amd: bool,
    /// Whether the CPU has 1 GiB pages.
    pub has_gib_pages: bool,
    /// Whether the CPU has PSE-36.
    pub has_pse36: bool,
}

/// The reason why a walk ends without an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a model has no other faults")]
pub enum Fault {
    /// The address has more than 32 bits in PAE mode.
    PastTheEnd,
    /// An entry is not in RAM.
    TableNotRam {
        /// The level of the table; 1 is the lowest.
        level: u8,
        /// The physical address of the entry.
        entry: u64,
    },
    /// An entry is not present.
    NotPresent {
        /// The level of the table.
        level: u8,
    },
    /// An entry has reserved bits.
    ReservedBits {
        /// The level of the table.
        level: u8,
        /// The reserved bits that are set.
        bits: u64,
    },
    /// A page of the user, with SMAP and without AC.
    UserPage,
    /// A protection key forbids the access.
    ProtectionKey {
        /// The key.
        key: u8,
    },
    /// A write to a read-only page, with WP.
    ReadOnly,
}

/// The memory that has the page tables.
pub trait Tables {
    /// Reads `len` bytes, 4 or 8, as a little-endian number; `None` if they are not RAM.
    fn read(&self, at: u64, len: usize) -> Option<u64>;
    /// Writes the low `len` bytes, 4 or 8, of a number that was read from there.
    fn write(&self, at: u64, len: usize, value: u64);
}

/// Tables in the memory of a guest.
impl<M: GuestMemory + ?Sized> Tables for M {
    fn read(&self, at: u64, len: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        GuestMemory::read(self, Gpa(at), bytes.get_mut(..len)?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn write(&self, at: u64, len: usize, value: u64) {
        let bytes = value.to_le_bytes();
        let written = GuestMemory::write(self, Gpa(at), bytes.get(..len).unwrap_or_default());
        assert!(written.is_ok(), "the entry was read from there");
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Mode {
    Unpaged,
    TwoLevel,
    Pae,
    FourLevel,
}

/// An entry on the way down.
#[derive(Clone, Copy)]
struct Step {
    slot: u64,
    entry: u64,
    has_rights: bool,
}

impl Paging {
    /// The same registers and features as those of pvh-memory's walk.
    #[must_use]
    pub const fn of(state: &PagingState, policy: &PagingPolicy) -> Self {
        Self {
            cr0: state.cr0,
            cr3: state.cr3,
            cr4: state.cr4,
            efer: state.efer,
            rflags: state.rflags,
            pkru: state.pkru,
            address_bits: policy.address_bits,
            is_amd: policy.is_amd,
            has_gib_pages: policy.has_gib_pages,
            has_pse36: policy.has_pse36,
        }
    }

    const fn mode(&self) -> Mode {
        match (self.cr0 >> 31 & 1, self.efer >> 10 & 1, self.cr4 >> 5 & 1) {
            (0, ..) => Mode::Unpaged,
            (_, 1, _) => Mode::FourLevel,
            (_, _, 1) => Mode::Pae,
            _ => Mode::TwoLevel,
        }
    }

    /// Returns the physical address of a supervisor's access, and sets accessed and dirty bits.
    ///
    /// # Errors
    ///
    /// The [`Fault`] that the CPU would find first.
    pub fn translate(
        &self,
        tables: &impl Tables,
        linear: u64,
        is_write: bool,
    ) -> Result<u64, Fault> {
        let mode = self.mode();
        let levels: &[(u32, u32)] = match mode {
            Mode::Unpaged => return Ok(linear),
            Mode::TwoLevel => &[(22, 10), (12, 10)],
            Mode::Pae => &[(30, 2), (21, 9), (12, 9)],
            Mode::FourLevel => &[(39, 9), (30, 9), (21, 9), (12, 9)],
        };
        if mode == Mode::Pae && linear >= 1 << 32 {
            return Err(Fault::PastTheEnd);
        }
        let mut table = match mode {
            Mode::TwoLevel => self.cr3 & 0xffff_f000,
            Mode::Pae => self.cr3 & 0xffff_ffe0,
            _ => self.cr3 & !0xfff,
        };
        let mut steps: Vec<Step> = Vec::new();
        for (&(shift, width), level) in levels.iter().zip((1..=levels.len()).rev()) {
            let level = u8::try_from(level).unwrap_or(0);
            let index = linear >> shift & ((1 << width) - 1);
            let slot = table | (index * self.entry_bytes() as u64);
            let entry = self.load(tables, slot);
            let entry = entry.ok_or(Fault::TableNotRam { level, entry: slot })?;
            if entry & 1 == 0 {
                return Err(Fault::NotPresent { level });
            }
            let refuse = |bits: u64| match bits {
                0 => Ok(()),
                bits => Err(Fault::ReservedBits { level, bits }),
            };
            refuse(entry & self.reserved(level))?;
            steps.push(Step {
                slot,
                entry,
                has_rights: !(mode == Mode::Pae && level == 3),
            });
            if level == 1 || self.is_large(level, entry) {
                if level > 1 {
                    refuse(entry & self.reserved_if_large(level))?;
                }
                self.check_rights(&steps, is_write)?;
                self.mark(tables, &steps, is_write);
                return Ok(self.page(level, shift, entry) | linear & ((1 << shift) - 1));
            }
            table = entry & 0x000f_ffff_ffff_f000;
        }
        unreachable!("level 1 maps a page");
    }

    fn entry_bytes(&self) -> usize {
        if self.mode() == Mode::TwoLevel { 4 } else { 8 }
    }

    fn load(&self, tables: &impl Tables, slot: u64) -> Option<u64> {
        match slot >> self.address_bits {
            0 => tables.read(slot, self.entry_bytes()),
            _ => None,
        }
    }

    fn is_large(&self, level: u8, entry: u64) -> bool {
        let can_be = match (self.mode(), level) {
            (Mode::TwoLevel, 2) => self.cr4 & 1 << 4 != 0,
            (Mode::FourLevel, 3) => self.has_gib_pages,
            (_, 2) => true,
            _ => false,
        };
        can_be && entry & 1 << 7 != 0
    }

    fn reserved(&self, level: u8) -> u64 {
        let mode = self.mode();
        if mode == Mode::TwoLevel {
            return 0;
        }
        if mode == Mode::Pae && level == 3 {
            return 0; // checked when CR3 is loaded, not in a walk
        }
        let mut bits = range(u32::from(self.address_bits), 51);
        if self.efer & 1 << 11 == 0 {
            bits |= 1 << 63;
        }
        match (mode, level) {
            (Mode::Pae, _) => bits |= range(52, 62),
            (_, 4) if self.is_amd => bits |= range(7, 8),
            (_, 4) => bits |= 1 << 7,
            (_, 3) if !self.has_gib_pages => bits |= 1 << 7,
            _ => {}
        }
        bits
    }

    fn reserved_if_large(&self, level: u8) -> u64 {
        match (self.mode(), level) {
            (Mode::TwoLevel, _) if !self.has_pse36 => range(13, 21),
            (Mode::TwoLevel, _) => {
                // bits 20:13 are address bits 39:32
                let folded = (32..40).filter(|&bit| bit >= u32::from(self.address_bits));
                folded.fold(1 << 21, |bits, bit| bits | 1 << (bit - 19))
            }
            (_, 3) => range(13, 29),
            _ => range(13, 20),
        }
    }

    fn page(&self, level: u8, shift: u32, entry: u64) -> u64 {
        let base = entry & 0x000f_ffff_ffff_f000 & !((1 << shift) - 1);
        let is_folded = self.mode() == Mode::TwoLevel && level == 2;
        match is_folded && self.has_pse36 {
            true => base | (entry >> 13 & 0xff) << 32,
            false => base,
        }
    }

    fn check_rights(&self, steps: &[Step], is_write: bool) -> Result<(), Fault> {
        let all = |bit: u64| {
            let mut rights = steps.iter().filter(|step| step.has_rights);
            rights.all(|step| step.entry & bit != 0)
        };
        let is_stopped = is_write && self.cr0 & 1 << 16 != 0;
        if all(4) {
            let is_open = self.rflags & 1 << 18 != 0;
            if self.cr4 & 1 << 21 != 0 && !is_open {
                return Err(Fault::UserPage);
            }
            if self.cr4 & 1 << 22 != 0 && self.mode() == Mode::FourLevel {
                let leaf = steps.last().map_or(0, |step| step.entry);
                let key = leaf >> 59 & 15;
                let rights = u64::from(self.pkru) >> (2 * key) & 3;
                if rights & 1 != 0 || is_stopped && rights & 2 != 0 {
                    let key = u8::try_from(key).unwrap_or(0);
                    return Err(Fault::ProtectionKey { key });
                }
            }
        }
        if is_stopped && !all(2) {
            return Err(Fault::ReadOnly);
        }
        Ok(())
    }

    /// Sets accessed and dirty bits from the page up, in each entry that has not changed since it
    /// was read.
    fn mark(&self, tables: &impl Tables, steps: &[Step], is_write: bool) {
        let mut bits = if is_write { 0x60 } else { 0x20 };
        for step in steps.iter().rev().filter(|step| step.has_rights) {
            let is_set = step.entry & bits == bits;
            if !is_set && self.load(tables, step.slot) == Some(step.entry) {
                tables.write(step.slot, self.entry_bytes(), step.entry | bits);
            }
            bits = 0x20;
        }
    }
}

/// Bits `low` to `high`, both included.
fn range(low: u32, high: u32) -> u64 {
    (low..=high).fold(0, |bits, bit| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use pvh_memory::VecMemory;

    use super::*;

    #[test]
    fn a_4_level_walk_gives_the_address_and_marks_each_entry() {
        let paging = Paging {
            cr0: 1 << 31,
            cr3: 0x1000,
            cr4: 1 << 5,
            efer: 1 << 10,
            rflags: 2,
            pkru: 0,
            address_bits: 39,
            is_amd: false,
            has_gib_pages: true,
            has_pse36: true,
        };
        let tables = VecMemory::from(vec![0; 0x5000]);
        for (slot, entry) in [
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x4003),
            (0x4008, 0x9003),
        ] {
            Tables::write(&tables, slot, 8, entry);
        }
        assert_eq!(paging.translate(&tables, 0x1234, true), Ok(0x9234));
        let entry = |at| Tables::read(&tables, at, 8);
        assert_eq!((entry(0x1000), entry(0x4008)), (Some(0x2023), Some(0x9063)));
        let fault = Fault::NotPresent { level: 1 };
        assert_eq!(paging.translate(&tables, 0x2000, false), Err(fault));
        let fault = Fault::TableNotRam {
            level: 4,
            entry: 0xf000,
        };
        let elsewhere = Paging {
            cr3: 0xf000,
            ..paging
        };
        assert_eq!(elsewhere.translate(&tables, 0, false), Err(fault));
    }
}
