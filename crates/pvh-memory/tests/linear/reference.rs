//! The walker against a second one: slow, written from the tables row by row, without masks made beforehand.

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_memory::{Access, LinearAddress, LinearMemory, PagingPolicy, PagingState, VecMemory};

use crate::guest::Guest;

/// The state of a walk that follows the text.
struct Slow<'guest> {
    ram: &'guest mut [u8],
    state: PagingState,
    policy: PagingPolicy,
    is_write: bool,
    user: bool,
    writable: bool,
    key: u64,
    /// Entries to get an accessed bit, by place; the last one is the leaf.
    seen: Vec<usize>,
}

/// One bit of a word.
fn bit(word: u64, at: u32) -> bool {
    word.checked_shr(at).unwrap_or(0) % 2 == 1
}

/// The number that stands in bits `high` to `low`.
fn field(word: u64, high: u32, low: u32) -> u64 {
    (low..=high)
        .rev()
        .fold(0, |sum, at| sum * 2 + u64::from(bit(word, at)))
}

fn any_of(word: u64, high: u32, low: u32) -> bool {
    (low..=high).any(|at| bit(word, at))
}

impl Slow<'_> {
    /// Where the address leads; `None` for a fault.
    fn walk(&mut self, linear: u64) -> Option<u64> {
        let gpa = if !bit(self.state.cr0, 31) {
            return Some(linear);
        } else if bit(self.state.efer, 10) {
            self.four_level(linear)?
        } else if bit(self.state.cr4, 5) {
            self.pae(linear)?
        } else {
            self.two_level(linear)?
        };
        self.may().then_some(())?;
        self.mark();
        Some(gpa)
    }

    fn four_level(&mut self, linear: u64) -> Option<u64> {
        let l4 = self.wide(self.state.cr3 / 4096, field(linear, 47, 39))?;
        let amd_is_bad = self.policy.is_amd && bit(l4, 8);
        (!bit(l4, 7) && !amd_is_bad).then_some(())?;
        self.rights(l4);
        let l3 = self.wide(field(l4, 51, 12), field(linear, 38, 30))?;
        self.rights(l3);
        if bit(l3, 7) {
            (self.policy.has_gib_pages && !any_of(l3, 29, 13)).then_some(())?;
            return Some(field(l3, 51, 30) * (1 << 30) + field(linear, 29, 0));
        }
        self.two_mib_or_less(field(l3, 51, 12), linear, false)
    }

    fn pae(&mut self, linear: u64) -> Option<u64> {
        (linear < 1 << 32).then_some(())?;
        let root = field(self.state.cr3, 31, 5) * 32;
        let place = root + field(linear, 31, 30) * 8;
        let l3 = self.eight_bytes(place)?;
        (bit(l3, 0) && !any_of(l3, 63, 52) && !any_of(l3, 8, 5) && !any_of(l3, 2, 1))
            .then_some(())?;
        (!self.too_wide(l3)).then_some(())?;
        self.two_mib_or_less(field(l3, 51, 12), linear, true)
    }

    fn two_mib_or_less(&mut self, frame: u64, linear: u64, is_pae: bool) -> Option<u64> {
        let l2 = self.wide(frame, field(linear, 29, 21))?;
        (!(is_pae && any_of(l2, 62, 52))).then_some(())?;
        self.rights(l2);
        if bit(l2, 7) {
            (!any_of(l2, 20, 13)).then_some(())?;
            return Some(field(l2, 51, 21) * (1 << 21) + field(linear, 20, 0));
        }
        let l1 = self.wide(field(l2, 51, 12), field(linear, 20, 12))?;
        (!(is_pae && any_of(l1, 62, 52))).then_some(())?;
        self.rights(l1);
        Some(field(l1, 51, 12) * 4096 + field(linear, 11, 0))
    }

    fn two_level(&mut self, linear: u64) -> Option<u64> {
        let l2 = self.narrow(field(self.state.cr3, 31, 12), field(linear, 31, 22))?;
        self.rights(l2);
        if bit(l2, 7) && bit(self.state.cr4, 4) {
            let folded = field(l2, 20, 13);
            let limit = 1_u64 << u32::from(self.policy.address_bits).saturating_sub(32);
            let good = match self.policy.has_pse36 {
                true => !bit(l2, 21) && folded < limit,
                false => !any_of(l2, 21, 13),
            };
            return good.then(|| {
                folded * (1 << 32) + field(l2, 31, 22) * (1 << 22) + field(linear, 21, 0)
            });
        }
        let l1 = self.narrow(field(l2, 31, 12), field(linear, 21, 12))?;
        self.rights(l1);
        Some(field(l1, 31, 12) * 4096 + field(linear, 11, 0))
    }

    /// A 64-bit entry that is present and has no bit set that is reserved in all of them.
    fn wide(&mut self, frame: u64, index: u64) -> Option<u64> {
        let place = frame.checked_mul(4096)? + index * 8;
        let entry = self.eight_bytes(place)?;
        let nx_is_bad = bit(entry, 63) && !bit(self.state.efer, 11);
        (bit(entry, 0) && !nx_is_bad && !self.too_wide(entry)).then_some(())?;
        self.seen.push(usize::try_from(place).unwrap());
        Some(entry)
    }

    fn narrow(&mut self, frame: u64, index: u64) -> Option<u64> {
        let place = usize::try_from(frame * 4096 + index * 4).unwrap();
        let bytes = self.ram.get(place..place + 4)?;
        let entry = u64::from(u32::from_le_bytes(bytes.try_into().unwrap()));
        bit(entry, 0).then_some(())?;
        self.seen.push(place);
        Some(entry)
    }

    fn eight_bytes(&self, place: u64) -> Option<u64> {
        let place = usize::try_from(place).unwrap();
        let bytes = self.ram.get(place..place.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().unwrap()))
    }

    fn too_wide(&self, entry: u64) -> bool {
        (u32::from(self.policy.address_bits)..=51).any(|at| bit(entry, at))
    }

    fn rights(&mut self, entry: u64) {
        self.user &= bit(entry, 2);
        self.writable &= bit(entry, 1);
        self.key = field(entry, 62, 59);
    }

    fn may(&self) -> bool {
        let state = &self.state;
        let wp = bit(state.cr0, 16);
        let smap = bit(state.cr4, 21) && !bit(state.rflags, 18);
        let has_keys = bit(state.cr4, 22) && bit(state.efer, 10);
        let key = u32::try_from(self.key).unwrap();
        let ad = bit(state.pkru.into(), key * 2);
        let wd = bit(state.pkru.into(), key * 2 + 1) && self.is_write && wp;
        let user_is_bad = self.user && (smap || has_keys && (ad || wd));
        let write_is_bad = self.is_write && wp && !self.writable;
        !user_is_bad && !write_is_bad
    }

    fn mark(&mut self) {
        for place in &self.seen {
            self.ram[*place] |= 0x20;
        }
        if let (Some(leaf), true) = (self.seen.last(), self.is_write) {
            self.ram[*leaf] |= 0x40;
        }
    }
}

/// The same bytes twice, one for each walker.
struct Pair {
    memory: VecMemory,
    ram: Vec<u8>,
}

impl Pair {
    fn new(ram: Vec<u8>) -> Self {
        Self {
            memory: VecMemory::from_bytes(Gpa(0), &ram),
            ram,
        }
    }

    /// Asks both where an address leads.
    fn ask(&mut self, state: PagingState, policy: PagingPolicy, linear: u64, access: Access) {
        let view = LinearMemory::new(&self.memory, &state, &policy);
        let ours = view.translate(LinearAddress(linear), access);
        let mut slow = Slow {
            ram: &mut self.ram,
            state,
            policy,
            is_write: access == Access::Write,
            user: true,
            writable: true,
            key: 0,
            seen: Vec::new(),
        };
        let theirs = slow.walk(linear);
        let ours = ours.map(|gpa| gpa.0);
        assert_eq!(
            ours.ok(),
            theirs,
            "{ours:?} {linear:#x} {access:?} {state:x?} {policy:?}"
        );
    }

    /// Looks at what became of the tables.
    fn finish(self) {
        assert!(self.memory.into_bytes() == self.ram, "the tables differ");
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
                    let mut pair = Pair::new(guest.bytes(0, 0x5000));
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
        let mut pair = Pair::new(ram);
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
        let mut pair = Pair::new(ram);
        pair.ask(state, policy, linear, Access::Write);
        pair.ask(state, policy, linear & 0xFFFF_FFFF, Access::Read);
        pair.finish();
    }
}
