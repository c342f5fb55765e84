//! A guest with one page mapped, in each mode.

use pvh_abi::Gpa;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearFault, LinearMemory, PagingPolicy, PagingState,
    VecMemory, WordOp,
};

/// RAM, its paging registers, and a linear address that leads to [`PAGE`].
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    pub(crate) state: PagingState,
    pub(crate) policy: PagingPolicy,
    pub(crate) at: LinearAddress,
    /// Where the entries of `at` are, from level 1 up.
    entries: Vec<Gpa>,
}

pub(crate) const RAM_BYTES: u64 = 0x2_0000;

/// Where the 4 KiB page is that `at` lies in.
pub(crate) const PAGE: u64 = 0x5000;

/// Where the next page of linear addresses is.
pub(crate) const NEXT_PAGE: u64 = 0x9000;

pub(crate) const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 46,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

/// PE, WP, PG.
const CR0: u64 = 0x8001_0001;

impl Guest {
    /// Linear addresses are physical ones.
    pub(crate) fn unpaged() -> Self {
        let state = PagingState {
            cr3: 0x4000,
            ..PagingState::UNPAGED
        };
        Self::new(state, LinearAddress(0x5567), vec![])
    }

    /// Entry 1 of level 4, 2 of level 3, 3 of level 2, 4 of level 1, byte 0x567.
    pub(crate) fn four_level() -> Self {
        let state = PagingState {
            cr0: CR0,
            cr3: 0x4000,
            cr4: 0x20,
            efer: 0xD00,
            ..Self::unpaged().state
        };
        let at = LinearAddress(0x0000_0080_8060_4567);
        let guest = Self::new(
            state,
            at,
            [0x1020, 0x2018, 0x3010, 0x4008].map(Gpa).to_vec(),
        );
        guest.set_all([PAGE | 3, 0x1003, 0x2003, 0x3003]);
        guest.set_u64(0x1028, NEXT_PAGE | 3);
        guest
    }

    /// Entry 2 of level 3, 3 of level 2, 4 of level 1, byte 0x567; CR3 points to the middle of a
    /// page.
    pub(crate) fn pae() -> Self {
        let state = PagingState {
            cr0: CR0,
            cr3: 0x3020,
            cr4: 0x20,
            efer: 0x800,
            ..Self::unpaged().state
        };
        let at = LinearAddress(0x8060_4567);
        let guest = Self::new(state, at, [0x1020, 0x2018, 0x3030].map(Gpa).to_vec());
        guest.set_all([PAGE | 3, 0x1003, 0x2001]);
        guest.set_u64(0x1028, NEXT_PAGE | 3);
        guest
    }

    /// Entry 3 of level 2, 4 of level 1, byte 0x567.
    pub(crate) fn two_level() -> Self {
        let state = PagingState {
            cr0: CR0,
            cr3: 0x2000,
            cr4: 0x10,
            ..Self::unpaged().state
        };
        let at = LinearAddress(0x00C0_4567);
        let guest = Self::new(state, at, [0x1010, 0x200C].map(Gpa).to_vec());
        guest.set_all([PAGE | 3, 0x1003]);
        let next = u32::try_from(NEXT_PAGE | 3).unwrap();
        guest
            .memory
            .write(Gpa(0x1014), &next.to_le_bytes())
            .unwrap();
        guest
    }

    /// Every mode that has tables.
    pub(crate) fn paged() -> [Self; 3] {
        [Self::four_level(), Self::pae(), Self::two_level()]
    }

    fn new(state: PagingState, at: LinearAddress, entries: Vec<Gpa>) -> Self {
        Self {
            memory: VecMemory::zeroed(&[(Gpa(0), RAM_BYTES)]).unwrap(),
            state,
            policy: POLICY,
            at,
            entries,
        }
    }

    /// How many levels there are.
    pub(crate) fn levels(&self) -> usize {
        self.entries.len()
    }

    fn is_narrow(&self) -> bool {
        self.entries.len() == 2
    }

    /// The entry of a level.
    pub(crate) fn entry(&self, level: usize) -> u64 {
        let at = self.entries[level - 1];
        if self.is_narrow() {
            return u64::from(self.memory.atomic_u32(at, WordOp::Load).unwrap());
        }
        self.memory.atomic_u64(at, WordOp::Load).unwrap()
    }

    pub(crate) fn entry_at(&self, level: usize) -> Gpa {
        self.entries[level - 1]
    }

    pub(crate) fn set(&self, level: usize, entry: u64) {
        let at = self.entries[level - 1];
        if self.is_narrow() {
            let entry = u32::try_from(entry).unwrap();
            return self.memory.write(at, &entry.to_le_bytes()).unwrap();
        }
        self.memory.write(at, &entry.to_le_bytes()).unwrap();
    }

    pub(crate) fn set_u64(&self, at: u64, word: u64) {
        self.memory.write(Gpa(at), &word.to_le_bytes()).unwrap();
    }

    fn set_all<const N: usize>(&self, entries: [u64; N]) {
        for (entry, level) in entries.into_iter().zip(1..) {
            self.set(level, entry);
        }
    }

    /// Changes the bits of an entry.
    pub(crate) fn change(&self, level: usize, clear: u64, set: u64) {
        self.set(level, self.entry(level) & !clear | set);
    }

    pub(crate) fn view(&self) -> LinearMemory<'_, VecMemory> {
        LinearMemory::new(&self.memory, &self.state, &self.policy)
    }

    /// Where the address leads for a read.
    pub(crate) fn translate(&self) -> Result<u64, LinearFault> {
        self.translate_for(Access::Read)
    }

    pub(crate) fn translate_for(&self, access: Access) -> Result<u64, LinearFault> {
        self.view().translate(self.at, access).map(|gpa| gpa.0)
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }
}
