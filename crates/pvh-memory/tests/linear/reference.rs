//! Compares the walker with the second walk of pvh-testkit: every bit of every entry, random
//! tables, noise.

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_memory::{Access, LinearAddress, LinearMemory, PagingPolicy, PagingState, VecMemory};
use pvh_testkit::paging::Paging;

use crate::guest::Guest;

/// The same bytes twice, one for each walker.
struct Pair {
    memory: VecMemory,
    model: VecMemory,
}

impl Pair {
    fn new(ram: Vec<u8>) -> Self {
        Self {
            memory: VecMemory::from_bytes(Gpa(0), &ram),
            model: VecMemory::from(ram),
        }
    }

    /// Asks both where an address leads.
    fn ask(&self, state: PagingState, policy: PagingPolicy, linear: u64, access: Access) {
        let view = LinearMemory::new(&self.memory, &state, &policy);
        let ours = view.translate(LinearAddress(linear), access);
        let paging = Paging::of(&state, &policy);
        let theirs = paging.translate(&self.model, linear, access == Access::Write);
        let ours = ours.map(|gpa| gpa.0);
        assert_eq!(
            ours.ok(),
            theirs.ok(),
            "{ours:?} {linear:#x} {access:?} {state:x?} {policy:?}"
        );
    }

    /// Looks at what became of the tables.
    fn finish(self) {
        assert!(
            self.memory.into_bytes() == self.model.into_bytes(),
            "the tables differ"
        );
    }
}

/// Every combination of the bits that rights depend on.
fn states(state: PagingState) -> impl Iterator<Item = PagingState> {
    (0..64_u64).map(move |n| PagingState {
        cr0: state.cr0 & !(1 << 16) | (n & 1) << 16,
        cr4: state.cr4 & !0x10 | (n >> 1 & 1) << 21 | (n >> 4 & 1) << 4 | (n >> 5 & 1) << 22,
        efer: state.efer & !(1 << 11) | (n >> 3 & 1) << 11,
        rflags: state.rflags | (n >> 2 & 1) << 18,
        pkru: 0x0000_0002,
        ..state
    })
}

#[test]
fn every_bit_of_every_entry_in_every_state() {
    for guest in Guest::paged() {
        for level in 1..=guest.levels() {
            // As it is; a user's; a page.
            for more in [0, 4, 0x84] {
                let before = guest.entry(level);
                for flip in (0..if guest.levels() == 2 { 32 } else { 64 }).map(|at| 1 << at) {
                    guest.set(level, (before | more) ^ flip);
                    let pair = Pair::new(guest.bytes(0, 0x5000));
                    for state in states(guest.state) {
                        for access in [Access::Read, Access::Write] {
                            pair.ask(state, guest.policy, guest.at.0, access);
                        }
                    }
                    pair.finish();
                }
                guest.set(level, before);
            }
        }
    }
}

/// An entry that leads somewhere, mostly; and bits that spoil it, sometimes.
fn entry() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![4 => Just(0x07_u64), 2 => Just(0x03), 1 => Just(0x05), 1 => Just(0x87), 1 => Just(1), 1 => Just(0)];
    let spoilt = prop_oneof![6 => Just(0_u64), 1 => (0..64_u32).prop_map(|at| 1 << at)];
    (flags, 0..9_u64, spoilt).prop_map(|(flags, frame, spoilt)| ((frame * 0x1000) | flags) ^ spoilt)
}

fn policy() -> impl Strategy<Value = PagingPolicy> {
    (32..=52_u8, any::<[bool; 3]>()).prop_map(|(address_bits, flags)| PagingPolicy {
        address_bits,
        is_amd: flags[0],
        has_gib_pages: flags[1],
        has_pse36: flags[2],
    })
}

fn state() -> impl Strategy<Value = PagingState> {
    let base = (0..4_usize).prop_map(|mode| {
        [
            Guest::unpaged(),
            Guest::four_level(),
            Guest::pae(),
            Guest::two_level(),
        ][mode]
            .state
    });
    (base, 0..64_usize, 0..8_u64, any::<u32>()).prop_map(|(base, nth, frame, pkru)| {
        let state = states(base).nth(nth).unwrap();
        PagingState {
            cr3: (frame * 0x1000) | base.cr3 & 0x20,
            pkru,
            ..state
        }
    })
}

proptest! {
    #[test]
    fn random_tables_are_walked_alike(
        entries in prop::collection::vec(entry(), 8 * 8),
        state in state(),
        policy in policy(),
        picks in prop::collection::vec((any::<u64>(), any::<bool>()), 24),
    ) {
        // Eight tables, each with eight entries over and over, so that every index meets one.
        let mut ram = Vec::new();
        for table in entries.chunks(8) {
            let wide: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            (0..64).for_each(|_| ram.extend_from_slice(&wide));
        }
        let pair = Pair::new(ram);
        for (linear, is_write) in picks {
            let access = if is_write { Access::Write } else { Access::Read };
            pair.ask(state, policy, linear, access);
            pair.ask(state, policy, linear & 0xFFFF_FFFF, access);
        }
        pair.finish();
    }

    #[test]
    fn memory_of_noise_is_walked_alike(
        seed in any::<[u8; 64]>(),
        state in state(),
        policy in policy(),
        linear in any::<u64>(),
    ) {
        let ram: Vec<u8> = seed.iter().cycle().copied().take(0x8000).collect();
        let pair = Pair::new(ram);
        pair.ask(state, policy, linear, Access::Write);
        pair.ask(state, policy, linear & 0xFFFF_FFFF, Access::Read);
        pair.finish();
    }
}
