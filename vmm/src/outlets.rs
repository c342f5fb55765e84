//! Where everything goes that comes out of a machine; it stays the same when the guest reboots.

use std::sync::{Arc, OnceLock};

use pvh_config::OnHalt;
use pvh_domain::Recorder;
use pvh_gdb::{Address, BindError, Server};
use pvh_terminal::{ConsoleQueue, GuestLog, Printable};

use crate::console::ConsoleEnd;

/// The ways out of a machine.
pub(crate) struct Outlets {
    /// What the guest prints on its console.
    pub(crate) console: ConsoleQueue,
    /// Where that goes, and where its input comes from.
    pub(crate) end: Arc<ConsoleEnd>,
    /// What the guest logs to its hypervisor, and what pvh-vmm says while the guest runs.
    pub(crate) log: GuestLog,
    /// Every call of the guest's domain, with `--record`.
    pub(crate) recorder: Option<Recorder>,
    /// Where gdb connects, with `--gdb`.
    pub(crate) gdb: Option<Address>,
    /// What listens there, once it does.
    pub(crate) server: OnceLock<Arc<Server>>,
    /// What a user at a terminal is told if the guest prints nothing; nothing with `--quiet`.
    pub(crate) hint: Option<Arc<str>>,
    /// What happens when every vCPU of a plain machine has halted for good.
    pub(crate) on_halt: OnHalt,
}

impl Outlets {
    /// Listens for gdb, if it is wanted, and says how to connect. It is called after the signals are
    /// taken: one that ends the process at once would leave the socket file behind.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub(crate) fn listen(&self) -> Result<Option<Arc<Server>>, BindError> {
        let Some(address) = &self.gdb else {
            return Ok(None);
        };
        if self.server.get().is_none() {
            let server = Server::bind(address)?;
            let _first = self.server.set(Arc::new(server));
        }
        let server = self.server.get().cloned();
        if let Some(server) = &server {
            let address = server.address().to_string();
            let address = Printable(&address);
            self.log.say(&format!(
                "the guest waits for gdb before its first instruction: target remote {address}"
            ));
        }
        Ok(server)
    }
}
