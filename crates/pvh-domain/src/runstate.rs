//! What a vCPU has done with its time: `vcpu_runstate_info` (xen/include/public/vcpu.h).

use pvh_abi::vcpu::{RunstateInfo, RunstateInfoCompat};
use zerocopy::{
    IntoBytes,
    little_endian::{U32, U64},
};

use crate::shared_info::Width;

/// Bit 63 of `state_entry_time`: the area is being written.
#[doc(alias = "XEN_RUNSTATE_UPDATE")]
pub const UPDATE_FLAG: u64 = 0x8000_0000_0000_0000;

/// What a vCPU is doing.
#[doc(alias = "RUNSTATE")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the ABI has these four")]
pub enum State {
    /// It runs.
    Running,
    /// It could run.
    Runnable,
    /// It waits for an event.
    Blocked,
    /// It is down.
    Offline,
}

impl State {
    /// Returns its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Running => 0,
            Self::Runnable => 1,
            Self::Blocked => 2,
            Self::Offline => 3,
        }
    }
}

/// The state of one vCPU, and how long it has been in each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Runstate {
    state: State,
    entry_ns: u64,
    time_ns: [u64; 4],
}

impl Runstate {
    /// A vCPU created at system time `now_ns`: offline.
    #[must_use]
    pub const fn new(now_ns: u64) -> Self {
        Self {
            state: State::Offline,
            entry_ns: now_ns,
            time_ns: [0; 4],
        }
    }

    /// Returns what the vCPU is doing.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Goes over to another state at system time `now_ns`; nothing happens if it is in that state. Time that goes
    /// backwards counts as none.
    pub fn change(&mut self, state: State, now_ns: u64) {
        if self.state == state {
            return;
        }
        if now_ns > self.entry_ns {
            self.time_ns = self.times_at(now_ns);
            self.entry_ns = now_ns;
        }
        self.state = state;
    }

    /// Returns it with the time up to `now_ns` counted, as `VCPUOP_get_runstate_info` answers it.
    #[must_use]
    pub fn at(&self, now_ns: u64) -> Self {
        Self {
            time_ns: self.times_at(now_ns),
            ..*self
        }
    }

    /// Returns the structure of 64-bit callers.
    #[must_use]
    pub fn to_info(&self) -> RunstateInfo {
        RunstateInfo {
            state: U32::new(self.state.number()),
            pad: U32::new(0),
            state_entry_time: U64::new(self.entry_ns),
            time: self.time_ns.map(U64::new),
        }
    }

    /// Returns the structure of 32-bit callers.
    #[must_use]
    pub fn to_info_compat(&self) -> RunstateInfoCompat {
        RunstateInfoCompat {
            state: U32::new(self.state.number()),
            state_entry_time: U64::new(self.entry_ns),
            time: self.time_ns.map(U64::new),
        }
    }

    /// Writes a registered area, through `put(offset, bytes)`, whose failures are the caller's to ignore.
    ///
    /// With `update_flag` (vm_assist type 5) the last byte of `state_entry_time` is written with [`UPDATE_FLAG`]
    /// first, then everything with the flag, then that byte without it.
    pub fn write_area(&self, width: Width, update_flag: bool, mut put: impl FnMut(u64, &[u8])) {
        if !update_flag {
            return self.put_whole(width, &mut put);
        }
        let flagged = Self {
            entry_ns: self.entry_ns | UPDATE_FLAG,
            ..*self
        };
        let (at, [.., clear], [.., set]) = (
            width.entry_last_byte(),
            (self.entry_ns & !UPDATE_FLAG).to_le_bytes(),
            flagged.entry_ns.to_le_bytes(),
        );
        put(at, &[set]);
        flagged.put_whole(width, &mut put);
        put(at, &[clear]);
    }

    fn put_whole(&self, width: Width, put: &mut impl FnMut(u64, &[u8])) {
        match width {
            Width::Bits32 => put(0, self.to_info_compat().as_bytes()),
            Width::Bits64 => put(0, self.to_info().as_bytes()),
        }
    }

    fn times_at(&self, now_ns: u64) -> [u64; 4] {
        let spent = now_ns.saturating_sub(self.entry_ns);
        let mut times = self.time_ns;
        if let Some(time) = times.get_mut(self.state.number() as usize) {
            *time = time.saturating_add(spent);
        }
        times
    }
}

impl Width {
    /// The place of the last byte of `state_entry_time`, which holds [`UPDATE_FLAG`].
    const fn entry_last_byte(self) -> u64 {
        match self {
            Self::Bits32 => 11,
            Self::Bits64 => 15,
        }
    }
}
