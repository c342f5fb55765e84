//! A guest in long mode: the first 2 MiB at 0 and at HIGH.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may panic, and uses a part"
)]

use pvh_abi::Gpa;
use pvh_entry::{EntryState, Segment};
use pvh_memory::{GuestMemory, VecMemory};

pub(crate) const HIGH: u64 = 0xFFFF_FFFF_8000_0000;
pub(crate) const RAM: [(Gpa, u64); 1] = [(Gpa(0), 0x20_0000)];

pub(crate) fn memory() -> VecMemory {
    let memory = VecMemory::zeroed(&RAM).unwrap();
    let word = |at: u64, value: u64| memory.write(Gpa(at), &value.to_le_bytes()).unwrap();
    word(0x10000, 0x11003);
    word(0x10FF8, 0x12003);
    word(0x11000, 0x13003);
    word(0x12FF0, 0x13003);
    word(0x13000, 0x83);
    memory
}

pub(crate) fn long_mode() -> EntryState {
    let mut state = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
    state.cr0 = 0x8000_0011;
    state.cr3 = 0x10000;
    state.cr4 = 0x20;
    state.efer = 0x500;
    state.cs = Segment::FLAT_CODE_64;
    state.rip = HIGH + 0x10_0200;
    state.rsp = HIGH + 0x8000;
    state
}
