//! The walk from a linear address to a guest-physical one.

use pvh_abi::Gpa;

use super::{
    Access, LinearAddress, LinearFault, PagingState,
    tables::{Level, PRESENT, TABLE_ADDRESS, Tables},
};
use crate::{GuestMemory, WordOp};

/// One walk through the tables, from the root down.
pub(super) struct Walk<'walk, M: ?Sized> {
    memory: &'walk M,
    state: &'walk PagingState,
    tables: &'walk Tables,
    at: LinearAddress,
    /// The table of the level that is next.
    table: Gpa,
    /// The rights bits that every entry with rights has set.
    rights: u64,
    /// The entries that have an accessed bit, from the root on.
    visited: [Option<Visited>; 4],
}

/// An entry that a walk went through.
#[derive(Clone, Copy, Debug)]
struct Visited {
    at: Gpa,
    entry: u64,
}

impl<'walk, M: GuestMemory + ?Sized> Walk<'walk, M> {
    pub(super) const fn new(
        memory: &'walk M,
        state: &'walk PagingState,
        tables: &'walk Tables,
        at: LinearAddress,
    ) -> Self {
        Self {
            memory,
            state,
            tables,
            at,
            table: tables.root,
            rights: u64::MAX,
            visited: [None; 4],
        }
    }

    /// Walks the tables; returns where the address leads, if the kernel may access it this way.
    pub(super) fn finish(mut self, access: Access) -> Result<Gpa, LinearFault> {
        let (target, leaf) = self.descend()?;
        self.check_rights(leaf, access)?;
        self.set_accessed_and_dirty(access);
        Ok(target)
    }

    /// Goes down to the entry that maps the address; returns where it leads, and the entry.
    fn descend(&mut self) -> Result<(Gpa, u64), LinearFault> {
        let tables = self.tables;
        for (level, visited) in tables.upper.iter().flatten().zip(0..) {
            let entry = self.entry(level, visited)?;
            let large = level.large_page(entry);
            if let Some(page) = large {
                self.check_reserved(level, entry & page.reserved)?;
                return Ok((level.target(entry, large, self.at), entry));
            }
            self.table = Gpa(entry & TABLE_ADDRESS);
        }
        let entry = self.entry(&tables.last, 3)?;
        Ok((tables.last.target(entry, None, self.at), entry))
    }

    /// Reads the entry of the address at one level, and notes it as number `visited` of the walk.
    fn entry(&mut self, level: &Level, visited: usize) -> Result<u64, LinearFault> {
        let (at, tables) = (self.at, self.tables);
        let slot = tables.slot(self.table, level.index(at));
        let loaded = tables.load(self.memory, slot);
        let entry = loaded.ok_or(LinearFault::TableNotRam {
            at,
            level: level.number,
            entry: slot,
        })?;
        if entry & PRESENT == 0 {
            let level = level.number;
            return Err(LinearFault::NotPresent { at, level });
        }
        self.check_reserved(level, entry & level.reserved)?;
        if level.has_rights {
            self.rights &= entry;
            if let Some(place) = self.visited.get_mut(visited) {
                *place = Some(Visited { at: slot, entry });
            }
        }
        Ok(entry)
    }

    const fn check_reserved(&self, level: &Level, bits: u64) -> Result<(), LinearFault> {
        if bits == 0 {
            return Ok(());
        }
        Err(LinearFault::ReservedBits {
            at: self.at,
            level: level.number,
            bits,
        })
    }

    /// Checks whether the kernel may access the page that the entry `leaf` maps.
    fn check_rights(&self, leaf: u64, access: Access) -> Result<(), LinearFault> {
        let (at, state) = (self.at, self.state);
        let protects = access == Access::Write && state.is_write_protected();
        if self.rights & USER != 0 {
            if state.is_kept_from_user_pages() {
                return Err(LinearFault::UserPage { at });
            }
            if state.has_protection_keys() {
                let [.., high] = leaf.to_le_bytes();
                let key = high.wrapping_shr(3) & 0xF;
                let closed = state.pkru.wrapping_shr(u32::from(key).wrapping_mul(2));
                if closed & PKRU_AD != 0 || protects && closed & PKRU_WD != 0 {
                    return Err(LinearFault::ProtectionKey { at, key });
                }
            }
        }
        if protects && self.rights & WRITABLE == 0 {
            return Err(LinearFault::ReadOnly { at });
        }
        Ok(())
    }

    /// Sets the bits that a CPU sets: accessed in every entry, dirty in the last for a write.
    fn set_accessed_and_dirty(&self, access: Access) {
        let mut wanted = match access {
            Access::Read => ACCESSED,
            Access::Write => ACCESSED | DIRTY,
        };
        for visited in self.visited.iter().rev().flatten() {
            if visited.entry & wanted != wanted {
                self.set(*visited, wanted);
            }
            wanted = ACCESSED;
        }
    }

    /// Sets bits of an entry, unless the guest has changed the entry meanwhile: then the bits
    /// belong to the entry that it replaced.
    fn set(&self, visited: Visited, bits: u64) {
        let Visited { at, entry } = visited;
        let new = entry | bits;
        let _lost_is_fine = if self.tables.is_wide {
            let expected = entry;
            let op = WordOp::CompareExchange { expected, new };
            self.memory.atomic_u64(at, op).is_ok()
        } else {
            // Both come from 32 bits.
            let [expected, new] = [entry, new].map(|word| u32::try_from(word).unwrap_or(u32::MAX));
            let op = WordOp::CompareExchange { expected, new };
            self.memory.atomic_u32(at, op).is_ok()
        };
    }
}

const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// Access disabled, and write disabled, of a protection key.
const PKRU_AD: u32 = 1;
const PKRU_WD: u32 = 2;
