//! How a vCPU has spent its time: `vcpu_runstate_info` (xen/include/public/vcpu.h).

use pvh_hypercall::{Width, group::Runstate};
use zerocopy::IntoBytes;

/// Bit 63 of `state_entry_time`: the area is being written.
#[doc(alias = "XEN_RUNSTATE_UPDATE")]
pub const UPDATE_FLAG: u64 = 0x8000_0000_0000_0000;

/// What a vCPU is doing.
#[doc(alias = "RUNSTATE")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the ABI has these four")]
pub enum RunState {
    /// It runs.
    Running,
    /// It could run.
    Runnable,
    /// It waits for an event.
    Blocked,
    /// It is down.
    Offline,
}

impl RunState {
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
pub struct RunstateClock {
    state: RunState,
    since_ns: u64,
    time_ns: [u64; 4],
}

impl RunstateClock {
    /// A vCPU created at system time `now_ns`: offline.
    #[must_use]
    pub const fn new(now_ns: u64) -> Self {
        Self {
            state: RunState::Offline,
            since_ns: now_ns,
            time_ns: [0; 4],
        }
    }

    /// Returns what the vCPU is doing.
    #[must_use]
    pub const fn state(&self) -> RunState {
        self.state
    }

    /// Goes over to another state at system time `now_ns`; nothing happens if the vCPU is in that
    /// state. Time that goes backwards counts as none.
    pub fn change(&mut self, state: RunState, now_ns: u64) {
        if self.state == state {
            return;
        }
        if now_ns > self.since_ns {
            self.time_ns = self.at(now_ns).time_ns;
            self.since_ns = now_ns;
        }
        self.state = state;
    }

    /// Returns the times up to `now_ns`, as `VCPUOP_get_runstate_info` answers them.
    #[must_use]
    pub fn at(&self, now_ns: u64) -> Runstate {
        let mut time_ns = self.time_ns;
        if let Some(time) = time_ns.get_mut(self.state.number() as usize) {
            *time = time.saturating_add(now_ns.saturating_sub(self.since_ns));
        }
        Runstate {
            state: self.state.number(),
            since_ns: self.since_ns,
            time_ns,
        }
    }

    /// Returns the times up to the last change, as a registered area holds them.
    #[must_use]
    pub fn at_last_change(&self) -> Runstate {
        self.at(self.since_ns)
    }
}

/// Writes a registered area, through `put(offset, bytes)`, whose failures are the caller's to
/// ignore.
///
/// With `update_flag` (vm_assist type 5) the last byte of `state_entry_time` is written with
/// [`UPDATE_FLAG`] first, then everything with the flag, then that byte without it.
pub fn write_area(
    runstate: &Runstate,
    width: Width,
    update_flag: bool,
    mut put: impl FnMut(u64, &[u8]),
) {
    if !update_flag {
        return put_whole(runstate, width, &mut put);
    }
    let flagged = Runstate {
        since_ns: runstate.since_ns | UPDATE_FLAG,
        ..*runstate
    };
    let (at, [.., clear], [.., set]) = (
        since_last_byte(width),
        (runstate.since_ns & !UPDATE_FLAG).to_le_bytes(),
        flagged.since_ns.to_le_bytes(),
    );
    put(at, &[set]);
    put_whole(&flagged, width, &mut put);
    put(at, &[clear]);
}

fn put_whole(runstate: &Runstate, width: Width, put: &mut impl FnMut(u64, &[u8])) {
    match width {
        Width::Compat => put(0, runstate.to_info_compat().as_bytes()),
        Width::Native => put(0, runstate.to_info().as_bytes()),
    }
}

/// The offset of the last byte of `state_entry_time`, which holds [`UPDATE_FLAG`].
const fn since_last_byte(width: Width) -> u64 {
    match width {
        Width::Compat => 11,
        Width::Native => 15,
    }
}
