//! The entries of page tables.

use pvh_abi::Gpa;

use super::{LinearAddress, PagingMode, PagingPolicy, PagingState};
use crate::{GuestMemory, WordOp};

/// How the page tables of one paging mode are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    /// Where the highest table begins.
    pub(super) root: Gpa,
    /// Whether entries have 64 bits; else 32.
    pub(super) is_wide: bool,
    /// The first linear address that does not exist; `None` if all do.
    pub(super) end: Option<LinearAddress>,
    /// The levels above the last, from the root on; modes with fewer have `None`s first.
    pub(super) upper: [Option<Level>; 3],
    /// Level 1, whose entries map 4 KiB.
    pub(super) last: Level,
    /// The bits that are 0 in every address of a table.
    beyond: u64,
}

/// How the entries of one level are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// Its number, 1 for the one that maps 4 KiB pages.
    pub(super) number: u8,
    /// The lowest bit of the index in a linear address: an entry covers 2^shift bytes.
    shift: u32,
    /// The greatest index.
    index_max: u64,
    /// The bits that are 0 in every entry that is present.
    pub(super) reserved: u64,
    /// How an entry with bit 7 set is read; `None` if that bit does not make it map a page.
    pub(super) large: Option<LargePage>,
    /// Whether entries have access rights and accessed bits: those of PAE's highest level do not.
    pub(super) has_rights: bool,
}

/// How an entry that maps more than 4 KiB is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargePage {
    /// The bits that are 0 beside those of the level.
    pub(super) reserved: u64,
    /// Whether bits 20:13 are address bits 39:32 (PSE36).
    is_folded: bool,
}

impl Tables {
    /// The tables of a vCPU; `None` if it is unpaged.
    pub(super) const fn new(state: &PagingState, policy: &PagingPolicy) -> Option<Self> {
        match state.mode() {
            PagingMode::Unpaged => None,
            PagingMode::FourLevel => Some(Self::four_level(state, policy)),
            PagingMode::Pae => Some(Self::pae(state, policy)),
            PagingMode::TwoLevel => Some(Self::two_level(state, policy)),
        }
    }

    const fn four_level(state: &PagingState, policy: &PagingPolicy) -> Self {
        let reserved = reserved_when_wide(state, policy);
        let mut l4 = Level::wide(4, 39, reserved | PAGE_SIZE_BIT);
        if policy.is_amd {
            l4.reserved |= bits(8, 8);
        }
        let mut l3 = Level::wide(3, 30, reserved);
        if policy.has_gib_pages {
            l3.large = Some(LargePage::unfolded(bits(13, 29)));
        } else {
            l3.reserved |= PAGE_SIZE_BIT;
        }
        let mut l2 = Level::wide(2, 21, reserved);
        l2.large = Some(LargePage::unfolded(bits(13, 20)));
        Self {
            root: Gpa(state.cr3 & bits(12, 63)),
            is_wide: true,
            end: None,
            upper: [Some(l4), Some(l3), Some(l2)],
            last: Level::wide(1, 12, reserved),
            beyond: beyond(policy),
        }
    }

    const fn pae(state: &PagingState, policy: &PagingPolicy) -> Self {
        let reserved = reserved_when_wide(state, policy);
        // The CPU checks the reserved bits of this level only when it loads CR3.
        let mut l3 = Level::wide(3, 30, 0);
        l3.index_max = 3;
        l3.has_rights = false;
        let mut l2 = Level::wide(2, 21, reserved | bits(52, 62));
        l2.large = Some(LargePage::unfolded(bits(13, 20)));
        Self {
            root: Gpa(state.cr3 & bits(5, 31)),
            is_wide: true,
            end: Some(LinearAddress(1 << 32)),
            upper: [None, Some(l3), Some(l2)],
            last: Level::wide(1, 12, reserved | bits(52, 62)),
            beyond: beyond(policy),
        }
    }

    const fn two_level(state: &PagingState, policy: &PagingPolicy) -> Self {
        let mut l2 = Level::narrow(2, 22);
        if state.has_large_pages_of_4_mib() {
            l2.large = Some(LargePage::of_4_mib(policy));
        }
        Self {
            root: Gpa(state.cr3 & bits(12, 31)),
            is_wide: false,
            end: None,
            upper: [None, None, Some(l2)],
            last: Level::narrow(1, 12),
            beyond: beyond(policy),
        }
    }
}

impl Tables {
    /// Where the entry of a table is.
    pub(super) const fn slot(&self, table: Gpa, index: u64) -> Gpa {
        // No carry: a table is aligned to its size.
        let offset = index.wrapping_shl(if self.is_wide { 3 } else { 2 });
        Gpa(table.0 | offset)
    }

    /// Reads an entry in one piece; `None` if it is not in RAM.
    pub(super) fn load<M: GuestMemory + ?Sized>(&self, memory: &M, slot: Gpa) -> Option<u64> {
        if slot.0 & self.beyond != 0 {
            return None;
        }
        if self.is_wide {
            return memory.atomic_u64(slot, WordOp::Load).ok();
        }
        memory.atomic_u32(slot, WordOp::Load).ok().map(u64::from)
    }
}

impl Level {
    const fn wide(number: u8, shift: u32, reserved: u64) -> Self {
        Self {
            number,
            shift,
            index_max: 511,
            reserved,
            large: None,
            has_rights: true,
        }
    }

    const fn narrow(number: u8, shift: u32) -> Self {
        Self {
            number,
            shift,
            index_max: 1023,
            reserved: 0,
            large: None,
            has_rights: true,
        }
    }

    /// Where in its table the entry of an address is, in entries.
    pub(super) const fn index(&self, at: LinearAddress) -> u64 {
        at.0.wrapping_shr(self.shift) & self.index_max
    }

    /// The large page an entry maps, if it does.
    pub(super) const fn large_page(&self, entry: u64) -> Option<LargePage> {
        if entry & PAGE_SIZE_BIT == 0 {
            return None;
        }
        self.large
    }

    /// Where an address leads, in the page that `entry` maps; `large` unless it is of 4 KiB.
    pub(super) fn target(&self, entry: u64, large: Option<LargePage>, at: LinearAddress) -> Gpa {
        let inside = !u64::MAX.wrapping_shl(self.shift);
        let page = entry & bits(12, 51) & !inside;
        let high = match large {
            Some(LargePage {
                is_folded: true, ..
            }) => (entry & bits(13, 20)).wrapping_shl(32 - 13),
            _ => 0,
        };
        Gpa(page | high | (at.0 & inside))
    }
}

impl LargePage {
    const fn unfolded(reserved: u64) -> Self {
        Self {
            reserved,
            is_folded: false,
        }
    }

    const fn of_4_mib(policy: &PagingPolicy) -> Self {
        if !policy.has_pse36 {
            return Self::unfolded(bits(13, 21));
        }
        // Address bit 32 stands in bit 13.
        let first_beyond = widen(policy.address_bits).saturating_sub(32 - 13);
        Self {
            reserved: bits(21, 21) | bits(first_beyond, 20) & bits(13, 20),
            is_folded: true,
        }
    }
}

/// The reserved bits of every 64-bit entry: address bits that the guest does not have, and NX while
/// it is off.
const fn reserved_when_wide(state: &PagingState, policy: &PagingPolicy) -> u64 {
    let address = bits(widen(policy.address_bits), 51);
    if state.has_no_execute() {
        address
    } else {
        address | bits(63, 63)
    }
}

/// The bits that no guest-physical address has.
const fn beyond(policy: &PagingPolicy) -> u64 {
    bits(widen(policy.address_bits), 63)
}

/// Bits `low` to `high`, both included; none if `low` is above.
const fn bits(low: u32, high: u32) -> u64 {
    if low > high || high > 63 {
        return 0;
    }
    u64::MAX.wrapping_shl(low) & u64::MAX.wrapping_shr(63_u32.saturating_sub(high))
}

/// `u32::from`, which is not const yet.
const fn widen(bits: u8) -> u32 {
    bits as u32
}

/// P: the entry leads somewhere.
pub(super) const PRESENT: u64 = 1;

/// Where in an entry the address of the next table is: bits 51:12.
pub(super) const TABLE_ADDRESS: u64 = bits(12, 51);

/// PS, bit 7 of an entry above level 1.
const PAGE_SIZE_BIT: u64 = 1 << 7;

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn a_run_of_bits_has_both_its_ends() {
        assert_eq!(bits(0, 63), u64::MAX);
        assert_eq!(bits(13, 20), 0x001F_E000);
        assert_eq!(bits(63, 63), 1 << 63);
        assert_eq!((bits(52, 51), bits(255, 63), bits(0, 64)), (0, 0, 0));
    }
}
