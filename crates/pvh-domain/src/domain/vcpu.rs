//! What the domain keeps for one vCPU.

use super::{Sleep, areas::Area};
use crate::parts::{memory::BegunExtent, runstate::RunstateClock};

/// What the domain keeps for a vCPU, beside its lifecycle.
#[derive(Debug)]
pub(super) struct VcpuData {
    /// Whether the vCPU sleeps, or will once its call is over.
    pub(super) asleep: Option<Sleep>,
    /// The vCPU's call is not over: its rest comes next.
    pub(super) is_in_call: bool,
    /// The vCPUs that its call waits for are being observed.
    pub(super) is_observing: bool,
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
            is_in_call: false,
            is_observing: false,
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
        }
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
