//! The hypervisor's half of one port.

use pvh_abi::{DomId, event_channel::Virq};

use super::HostPort;

/// The hypervisor's half of a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) state: State,
    /// The vCPU that the port notifies.
    pub(super) vcpu: u32,
    /// The receiver is the hypervisor: the guest may not use the port.
    pub(super) is_hypervisors: bool,
    /// The queue of the FIFO ABI; 0 has the highest priority.
    pub(super) priority: u8,
    /// The queue it was last linked on.
    pub(super) last_queue: Queue,
    /// The event was raised before its event word existed. Never cleared, as in Xen: a later use of
    /// the port is raised once more than necessary.
    pub(super) is_saved: bool,
}

/// The state of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Not in use.
    Free,
    /// Port 0.
    Reserved,
    /// Waits for this domain to join.
    Unbound(DomId),
    /// Joined to another port of this domain.
    Local(u32),
    /// Joined to a port of domain 0, which is the embedder.
    Host(HostPort),
    /// A physical interrupt, which never comes.
    Pirq(u32),
    /// A virtual interrupt.
    Virq(Virq),
    /// Signals between vCPUs.
    Ipi,
}

/// A queue of the FIFO ABI.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Queue {
    pub(super) vcpu: u32,
    pub(super) priority: u8,
}

impl Channel {
    /// A port that was never used.
    pub(super) const FREE: Self = Self {
        state: State::Free,
        vcpu: 0,
        is_hypervisors: false,
        priority: DEFAULT_PRIORITY,
        last_queue: Queue {
            vcpu: 0,
            priority: 0,
        },
        is_saved: false,
    };

    /// Tells whether a guest uses the port.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_hypervisors && !matches!(self.state, State::Free | State::Reserved)
    }
}

/// Tells whether a virtual interrupt is global, so that vCPU 0 binds it; the others are each vCPU's
/// own. In Xen 4.17, ARGO is global.
pub(super) const fn is_global(virq: Virq) -> bool {
    !matches!(
        virq,
        Virq::TIMER | Virq::DEBUG | Virq::XENOPROF | Virq::XENPMU
    )
}

pub(super) const DEFAULT_PRIORITY: u8 = 7;
/// The lowest priority has the highest number.
pub(super) const LAST_PRIORITY: u8 = 15;
