//! Where everything goes that comes out of a machine; it stays the same when the guest reboots.

use std::sync::Arc;

use pvh_config::OnHalt;
use pvh_domain::Recorder;

use crate::{console::ConsoleQueue, platform::GuestLog};

/// The ways out of a machine.
pub(crate) struct Outlets {
    /// What the guest prints on its console.
    pub(crate) console: ConsoleQueue,
    /// What the guest logs to its hypervisor, and what pvh-vmm says while the guest runs.
    pub(crate) log: GuestLog,
    /// Every call of the guest's domain, with `--record`.
    pub(crate) recorder: Option<Recorder>,
    /// What a user at a terminal is told if the guest prints nothing; nothing with `--quiet`.
    pub(crate) hint: Option<Arc<str>>,
    /// What happens when every vCPU of a plain machine has halted for good.
    pub(crate) on_halt: OnHalt,
}
