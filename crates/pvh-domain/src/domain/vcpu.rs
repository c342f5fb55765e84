//! What the domain keeps for one vCPU.

use pvh_hypercall::Width;

use super::{Observe, Sleep, areas::Area};
use crate::parts::{memory::BegunExtent, runstate::RunstateClock};

/// What the domain keeps for a vCPU, beside its lifecycle.
#[derive(Debug)]
pub(super) struct VcpuData {
    /// Whether the vCPU sleeps, or will once its call is over.
    pub(super) asleep: Option<Sleep>,
    /// Whether its call is over, or its rest comes next.
    pub(super) stage: Stage,
    /// The extent that its call has begun.
    pub(super) begun_extent: Option<BegunExtent>,
    /// Deadline of the one-shot timer, in ns of system time.
    pub(super) singleshot_ns: Option<u64>,
    pub(super) periodic: Periodic,
    /// Deadline of the poll, in ns of system time.
    pub(super) poll_until_ns: Option<u64>,
    pub(super) runstate: RunstateClock,
    pub(super) runstate_area: Option<Area>,
    pub(super) time_area: Option<Area>,
    /// Areas at guest-physical addresses. While there is one, the area at a linear address is not
    /// written. The runstate has the layout of the caller that registered it.
    pub(super) physical_runstate: Option<(Area, Width)>,
    pub(super) physical_time: Option<Area>,
    /// One of the areas may lead nowhere: the vCPU's next call translates it again.
    pub(super) has_lost_area: bool,
}

/// Where a vCPU stands between two goes of its calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Its last call is over.
    Between,
    /// Its call is not over: the rest comes next.
    InCall,
    /// The same, once these vCPUs have been observed.
    Observing(Observe),
}

/// The periodic timer of a vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Periodic {
    pub(super) period_ns: Option<u64>,
    /// When it fired last.
    pub(super) last_ns: u64,
}

impl VcpuData {
    pub(super) const fn new(now_ns: u64) -> Self {
        Self {
            asleep: None,
            stage: Stage::Between,
            begun_extent: None,
            singleshot_ns: None,
            periodic: Periodic {
                period_ns: None,
                last_ns: 0,
            },
            poll_until_ns: None,
            runstate: RunstateClock::new(now_ns),
            runstate_area: None,
            time_area: None,
            physical_runstate: None,
            physical_time: None,
            has_lost_area: false,
        }
    }
}

impl VcpuData {
    /// The time area that is written.
    pub(super) fn written_time_area(&self) -> Option<Area> {
        self.physical_time.or(self.time_area)
    }
}

impl Periodic {
    /// When it fires next.
    pub(super) const fn due_ns(&self) -> Option<u64> {
        match self.period_ns {
            Some(period_ns) => Some(self.last_ns.saturating_add(period_ns)),
            None => None,
        }
    }
}
