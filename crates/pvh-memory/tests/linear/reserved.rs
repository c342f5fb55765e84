//! "Bits that make the walk fail", of entries that are present.

use pvh_abi::Gpa;
use pvh_memory::{Access, LinearFault};

use crate::guest::Guest;

/// Sets each bit alone, in the entry of one level beside `base`, and collects those that are
/// reserved.
fn reserved(guest: &Guest, level: usize, base: u64) -> u64 {
    let bits = if guest.levels() == 2 { 32 } else { 64 };
    let before = guest.entry(level);
    let mut found = 0;
    for bit in (0..bits).map(|bit| 1_u64 << bit) {
        guest.set(level, base | bit);
        if let Err(LinearFault::ReservedBits {
            level: at_level,
            bits,
            at,
        }) = guest.translate()
        {
            assert_eq!((usize::from(at_level), at), (level, guest.at));
            assert!(
                bits & bit != 0 || base & bits == bits,
                "{bit:#x}: {bits:#x}"
            );
            found |= bits;
        }
    }
    guest.set(level, before);
    found
}

/// Of an entry that points to a table, or at level 1 to a page, at 0.
fn of_table(guest: &Guest, level: usize) -> u64 {
    reserved(guest, level, 1)
}

/// Address bits 51:46, for a guest with 46 of them.
const WIDE_46: u64 = 0x000F_C000_0000_0000;

const NX: u64 = 1 << 63;

#[test]
fn four_level_entries_reserve_the_address_bits_there_are_not() {
    let mut guest = Guest::four_level();
    for level in [1, 2, 3] {
        assert_eq!(of_table(&guest, level), WIDE_46, "level {level}");
    }
    guest.policy.address_bits = 36;
    assert_eq!(of_table(&guest, 1), 0x000F_FFF0_0000_0000);
    guest.policy.address_bits = 52;
    assert_eq!(of_table(&guest, 1), 0);
}

#[test]
fn bit_63_is_reserved_while_nxe_is_off() {
    let mut guest = Guest::four_level();
    guest.state.efer = 0x500;
    for level in [1, 2, 3] {
        assert_eq!(of_table(&guest, level), WIDE_46 | NX, "level {level}");
    }
    assert_eq!(of_table(&guest, 4), WIDE_46 | NX | 0x80);
}

#[test]
fn level_4_reserves_bit_7_and_on_amd_bit_8() {
    let mut guest = Guest::four_level();
    assert_eq!(of_table(&guest, 4), WIDE_46 | 0x80);
    guest.policy.is_amd = true;
    assert_eq!(of_table(&guest, 4), WIDE_46 | 0x180);
    assert_eq!(of_table(&guest, 3), WIDE_46, "no other level does");
}

#[test]
fn level_3_reserves_bit_7_without_pages_of_1_gib() {
    let mut guest = Guest::four_level();
    guest.policy.has_gib_pages = false;
    assert_eq!(of_table(&guest, 3), WIDE_46 | 0x80);
}

#[test]
fn a_page_of_1_gib_reserves_bits_29_to_13() {
    let guest = Guest::four_level();
    assert_eq!(reserved(&guest, 3, 0x83), WIDE_46 | 0x3FFF_E000);
}

#[test]
fn a_page_of_2_mib_reserves_bits_20_to_13() {
    let guest = Guest::four_level();
    assert_eq!(reserved(&guest, 2, 0x83), WIDE_46 | 0x001F_E000);
    let guest = Guest::pae();
    assert_eq!(
        reserved(&guest, 2, 0x83),
        0x7FF0_0000_0000_0000 | WIDE_46 | 0x001F_E000
    );
}

#[test]
fn pae_entries_reserve_bits_62_to_52_too() {
    let mut guest = Guest::pae();
    for level in [1, 2] {
        assert_eq!(of_table(&guest, level), 0x7FF0_0000_0000_0000 | WIDE_46);
    }
    guest.state.efer = 0;
    for level in [1, 2] {
        assert_eq!(of_table(&guest, level), 0xFFF0_0000_0000_0000 | WIDE_46);
    }
}

#[test]
fn pae_s_highest_entry_reserves_nothing_in_a_walk() {
    let mut guest = Guest::pae();
    for efer in [0, 0x800] {
        guest.state.efer = efer;
        assert_eq!(of_table(&guest, 3), 0);
    }
}

#[test]
fn pae_s_highest_entry_translates_with_its_accessed_bit_set() {
    let guest = Guest::pae();
    guest.set(3, 0x2021);
    for access in [Access::Read, Access::Write] {
        assert_eq!(guest.translate_for(access), Ok(0x5567));
    }
    assert_eq!(guest.entry(3), 0x2021, "the walk does not write it");
}

#[test]
fn pae_s_highest_entry_translates_with_any_bit_set_that_cr3_loads_refuse() {
    let mut guest = Guest::pae();
    for efer in [0, 0x800] {
        guest.state.efer = efer;
        for bit in [1, 2, 5, 6, 7, 8].into_iter().chain(52..=63) {
            guest.set(3, 0x2001 | 1 << bit);
            assert_eq!(guest.translate(), Ok(0x5567), "bit {bit}");
        }
        guest.set(3, 0xFFF0_0000_0000_21E7);
        assert_eq!(guest.translate(), Ok(0x5567), "all of them");
        guest.set(3, 0xFFF0_0000_0000_21E6);
        let fault = LinearFault::NotPresent {
            at: guest.at,
            level: 3,
        };
        assert_eq!(guest.translate(), Err(fault), "all but present");
    }
}

#[test]
fn pae_s_highest_entry_with_an_address_too_wide_leads_to_no_table() {
    let mut guest = Guest::pae();
    for bit in 46..=51 {
        guest.set(3, 0x2001 | 1 << bit);
        let fault = LinearFault::TableNotRam {
            at: guest.at,
            level: 2,
            entry: Gpa(0x2018 | 1 << bit),
        };
        assert_eq!(guest.translate(), Err(fault), "bit {bit}");
    }
    // There is RAM at 0x2000, but the guest's addresses have 13 bits.
    guest.policy.address_bits = 13;
    guest.state.cr3 = 0x1020;
    guest.set_u64(0x1030, 0x2001);
    let fault = LinearFault::TableNotRam {
        at: guest.at,
        level: 2,
        entry: Gpa(0x2018),
    };
    assert_eq!(guest.translate(), Err(fault));
}

#[test]
fn two_level_tables_and_small_pages_reserve_nothing() {
    let mut guest = Guest::two_level();
    assert_eq!(of_table(&guest, 1), 0);
    guest.state.cr4 = 0;
    assert_eq!(
        reserved(&guest, 2, 0x1083),
        0,
        "bit 7 is ignored without PSE"
    );
}

#[test]
fn a_page_of_4_mib_reserves_bit_21_and_folded_bits_there_are_not() {
    let mut guest = Guest::two_level();
    for (address_bits, want) in [(46, 0x0020_0000), (40, 0x0020_0000), (39, 0x0030_0000)] {
        guest.policy.address_bits = address_bits;
        assert_eq!(reserved(&guest, 2, 0x83), want, "{address_bits}");
    }
    guest.policy.address_bits = 36;
    assert_eq!(reserved(&guest, 2, 0x83), 0x003E_0000);
    guest.policy.address_bits = 32;
    assert_eq!(reserved(&guest, 2, 0x83), 0x003F_E000);
}

#[test]
fn a_page_of_4_mib_without_pse36_reserves_bits_21_to_13() {
    let mut guest = Guest::two_level();
    guest.policy.has_pse36 = false;
    assert_eq!(reserved(&guest, 2, 0x83), 0x003F_E000);
}

#[test]
fn an_entry_that_is_not_present_reserves_nothing() {
    for guest in Guest::paged() {
        let ones = if guest.levels() == 2 {
            0xFFFF_FFFE
        } else {
            u64::MAX - 1
        };
        for level in 1..=guest.levels() {
            let before = guest.entry(level);
            guest.set(level, ones);
            let fault = guest.translate().unwrap_err();
            let level_8 = u8::try_from(level).unwrap();
            assert_eq!(
                fault,
                LinearFault::NotPresent {
                    at: guest.at,
                    level: level_8
                }
            );
            guest.set(level, before);
        }
    }
}

#[test]
fn a_table_outside_ram_or_too_wide_fails_the_walk() {
    for guest in Guest::paged() {
        for level in 2..=guest.levels() {
            let before = guest.entry(level);
            guest.set(level, before & 0xFFF | 0x8_0000);
            let below = u8::try_from(level - 1).unwrap();
            let fault = guest.translate().unwrap_err();
            assert!(
                matches!(fault, LinearFault::TableNotRam { level, .. } if level == below),
                "{fault}"
            );
            guest.set(level, before);
        }
    }
}
