//! "Right", and the accessed and dirty bits.

use std::cell::Cell;

use pvh_abi::Gpa;
use pvh_memory::{
    Access::{Read, Write},
    GuestMemory, LinearFault, LinearMemory, MemoryError, VecMemory, WordOp,
};

use crate::guest::{Guest, PAGE};

const WP: u64 = 1 << 16;
const SMAP: u64 = 1 << 21;
const PKE: u64 = 1 << 22;
const AC: u64 = 1 << 18;

/// The levels whose entries have rights.
fn with_rights(guest: &Guest) -> std::ops::RangeInclusive<usize> {
    1..=if guest.state.mode() == pvh_memory::PagingMode::Pae {
        2
    } else {
        guest.levels()
    }
}

/// Makes the page a user's, at every level.
fn for_users(guest: &Guest) {
    for level in with_rights(guest) {
        guest.change(level, 0, 4);
    }
}

#[test]
fn a_supervisor_page_is_always_eligible() {
    for mut guest in Guest::paged() {
        guest.state.cr4 |= SMAP;
        assert_eq!(guest.translate_for(Read), Ok(0x5567));
        assert_eq!(guest.translate_for(Write), Ok(0x5567));
    }
}

#[test]
fn a_user_page_fails_under_smap_unless_ac_is_set() {
    for mut guest in Guest::paged() {
        for_users(&guest);
        assert_eq!(guest.translate(), Ok(0x5567), "no SMAP");
        guest.state.cr4 |= SMAP;
        for access in [Read, Write] {
            let fault = LinearFault::UserPage { at: guest.at };
            assert_eq!(guest.translate_for(access), Err(fault));
        }
        guest.state.rflags |= AC;
        assert_eq!(guest.translate_for(Write), Ok(0x5567), "AC opens it");
    }
}

#[test]
fn a_page_is_a_user_s_only_if_every_level_says_so() {
    for mut guest in Guest::paged() {
        guest.state.cr4 |= SMAP;
        for_users(&guest);
        for level in with_rights(&guest) {
            guest.change(level, 4, 0);
            assert_eq!(
                guest.translate(),
                Ok(0x5567),
                "level {level} is the kernel's"
            );
            guest.change(level, 0, 4);
        }
    }
}

#[test]
fn the_entry_of_a_large_page_decides_whether_it_is_a_user_page() {
    for (mut guest, level) in [
        (Guest::four_level(), 3),
        (Guest::pae(), 2),
        (Guest::two_level(), 2),
    ] {
        guest.state.cr4 |= SMAP;
        for_users(&guest);
        guest.set(level, 0x87);
        assert_eq!(
            guest.translate(),
            Err(LinearFault::UserPage { at: guest.at })
        );
        guest.set(level, 0x83);
        assert!(guest.translate().is_ok());
        guest.set(level, 0x81);
        assert_eq!(
            guest.translate_for(Write),
            Err(LinearFault::ReadOnly { at: guest.at })
        );
    }
}

#[test]
fn a_write_needs_rw_at_every_level_while_wp_is_on() {
    for mut guest in Guest::paged() {
        for level in with_rights(&guest) {
            guest.change(level, 2, 0);
            let fault = LinearFault::ReadOnly { at: guest.at };
            assert_eq!(guest.translate_for(Write), Err(fault), "level {level}");
            assert_eq!(guest.translate_for(Read), Ok(0x5567), "level {level}");
            guest.state.cr0 &= !WP;
            assert_eq!(guest.translate_for(Write), Ok(0x5567), "level {level}");
            guest.state.cr0 |= WP;
            guest.change(level, 0, 2);
        }
        assert_eq!(guest.translate_for(Write), Ok(0x5567));
    }
}

#[test]
fn no_execute_is_irrelevant() {
    for guest in [Guest::four_level(), Guest::pae()] {
        for level in with_rights(&guest) {
            guest.change(level, 0, 1 << 63);
        }
        assert_eq!(guest.translate_for(Write), Ok(0x5567));
    }
}

#[test]
fn pae_s_highest_entry_contributes_no_rights() {
    let mut guest = Guest::pae();
    assert_eq!(guest.entry(3), 0x2001, "neither R/W nor U/S");
    assert_eq!(guest.translate_for(Write), Ok(0x5567));
    for_users(&guest);
    guest.state.cr4 |= SMAP;
    assert_eq!(
        guest.translate(),
        Err(LinearFault::UserPage { at: guest.at })
    );
}

#[test]
fn protection_keys_close_user_pages_in_4_level_mode() {
    let mut guest = Guest::four_level();
    for_users(&guest);
    guest.change(1, 0, 9 << 59);
    guest.state.pkru = 1 << 18;
    assert_eq!(guest.translate(), Ok(0x5567), "CR4.PKE is off");
    guest.state.cr4 |= PKE;
    let fault = LinearFault::ProtectionKey {
        at: guest.at,
        key: 9,
    };
    assert_eq!(guest.translate_for(Read), Err(fault), "AD");
    guest.state.pkru = 2 << 18;
    assert_eq!(
        guest.translate_for(Read),
        Ok(0x5567),
        "WD lets reads through"
    );
    assert_eq!(guest.translate_for(Write), Err(fault), "WD");
    guest.state.cr0 &= !WP;
    assert_eq!(guest.translate_for(Write), Ok(0x5567), "WD, but WP is off");
    guest.state.pkru = !(3 << 18);
    assert_eq!(guest.translate_for(Write), Ok(0x5567), "other keys");
    guest.state.pkru = u32::MAX;
    guest.change(1, 4, 0);
    assert_eq!(guest.translate_for(Write), Ok(0x5567), "a supervisor page");
}

#[test]
fn two_level_mode_has_no_protection_keys() {
    let mut guest = Guest::two_level();
    for_users(&guest);
    guest.state.cr4 |= PKE;
    guest.state.pkru = u32::MAX;
    assert_eq!(guest.translate_for(Write), Ok(0x5567));
}

#[test]
fn a_read_sets_accessed_at_every_level_and_a_write_dirty_in_the_last() {
    for guest in Guest::paged() {
        let before: Vec<u64> = (1..=guest.levels())
            .map(|level| guest.entry(level))
            .collect();
        for (access, last) in [(Read, 0x20), (Write, 0x60)] {
            guest.translate_for(access).unwrap();
            for (level, before) in (1..).zip(&before) {
                let want = match level {
                    1 => last,
                    level if with_rights(&guest).contains(&level) => 0x20,
                    _ => 0,
                };
                assert_eq!(
                    guest.entry(level),
                    before | want,
                    "level {level}, {access:?}"
                );
            }
        }
    }
}

#[test]
fn a_large_page_gets_its_dirty_bit_where_it_is_mapped() {
    for (guest, level) in [
        (Guest::four_level(), 3),
        (Guest::pae(), 2),
        (Guest::two_level(), 2),
    ] {
        guest.set(level, 0x83);
        guest.translate_for(Write).unwrap();
        assert_eq!(guest.entry(level), 0xE3);
        assert_eq!(guest.entry(1), PAGE | 3, "the walk ends above");
    }
}

#[test]
fn a_walk_that_fails_sets_nothing() {
    for guest in Guest::paged() {
        for level in with_rights(&guest) {
            guest.change(level, 2, 0);
            let before: Vec<u8> = guest.bytes(0, 0x5000);
            assert!(guest.translate_for(Write).is_err());
            assert_eq!(guest.bytes(0, 0x5000), before);
            guest.change(level, 0, 2);
        }
    }
}

#[test]
fn accessed_and_dirty_are_set_before_the_target_is_looked_at() {
    for guest in Guest::paged() {
        guest.set(1, 0x8_0003);
        let fault = guest.view().write(guest.at, &[1]).unwrap_err();
        assert_eq!(
            fault,
            LinearFault::NotRam {
                at: guest.at,
                target: Gpa(0x8_0567)
            }
        );
        assert_eq!(guest.entry(1), 0x8_0063);
    }
}

/// Memory whose entries change under the walk, after they were read; and that only takes what a
/// walk may do.
struct Racing<'guest> {
    memory: &'guest VecMemory,
    /// The word that changes, and into what.
    word: (Gpa, u64),
    exchanges: Cell<usize>,
}

impl GuestMemory for Racing<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.memory.is_ram(at, len_bytes)
    }

    fn read(&self, _: Gpa, _: &mut [u8]) -> Result<(), MemoryError> {
        panic!("an entry is read in one piece")
    }

    fn write(&self, _: Gpa, _: &[u8]) -> Result<(), MemoryError> {
        panic!("an entry is never stored to")
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.count(
            matches!(op, WordOp::CompareExchange { .. }),
            op == WordOp::Load,
        );
        let answer = self.memory.atomic_u32(at, op);
        if at == self.word.0 && op == WordOp::Load {
            let new = u32::try_from(self.word.1).unwrap();
            self.memory.write(at, &new.to_le_bytes())?;
        }
        answer
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.count(
            matches!(op, WordOp::CompareExchange { .. }),
            op == WordOp::Load,
        );
        let answer = self.memory.atomic_u64(at, op);
        if at == self.word.0 && op == WordOp::Load {
            self.memory.write(at, &self.word.1.to_le_bytes())?;
        }
        answer
    }
}

impl Racing<'_> {
    fn count(&self, is_exchange: bool, is_load: bool) {
        assert!(is_exchange || is_load);
        self.exchanges
            .set(self.exchanges.get() + usize::from(is_exchange));
    }
}

#[test]
fn a_lost_race_for_an_entry_is_ignored_and_not_retried() {
    for guest in Guest::paged() {
        for level in with_rights(&guest) {
            let before = guest.entry(level);
            let racing = Racing {
                memory: &guest.memory,
                word: (guest.entry_at(level), 0x7_7002),
                exchanges: Cell::new(0),
            };
            let view = LinearMemory::new(&racing, &guest.state, &guest.policy);
            assert_eq!(view.translate(guest.at, Write), Ok(Gpa(0x5567)));
            assert_eq!(guest.entry(level), 0x7_7002, "what the guest wrote stays");
            assert!(racing.exchanges.get() <= guest.levels());
            guest.set(level, before);
        }
    }
}

#[test]
fn bits_that_are_set_are_not_set_again() {
    for guest in Guest::paged() {
        guest.translate_for(Write).unwrap();
        let racing = Racing {
            memory: &guest.memory,
            word: (Gpa(0), 0),
            exchanges: Cell::new(0),
        };
        let view = LinearMemory::new(&racing, &guest.state, &guest.policy);
        view.translate(guest.at, Write).unwrap();
        view.translate(guest.at, Read).unwrap();
        assert_eq!(racing.exchanges.get(), 0);
    }
}
