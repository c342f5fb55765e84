//! The back ends' interface to their guest.

use std::sync::Arc;

use pvh_abi::{DomId, Errno, event_channel::Port};
use pvh_domain::{HostGrants, HostPort};
use pvh_kvm::GuestRam;
use pvh_xen::{Doorbell, XenPlatform};
use pvh_xenbus::Change;
use pvh_xenstore::StoreError;

/// A guest as its back ends see it: a [`XenPlatform`], or a domain without a machine in tests.
///
/// Each call takes the domain's lock for itself, and none waits for the guest.
pub trait Guest: Send + Sync + 'static {
    /// The domain's number.
    fn domid(&self) -> DomId;
    /// The guest's memory.
    fn ram(&self) -> &Arc<GuestRam>;
    /// Returns the table through which a back end takes the pages that the guest has granted.
    fn host_grants(&self) -> HostGrants<Arc<GuestRam>>;
    /// Returns the value of a node of the store, if it is text.
    fn key(&self, path: &str) -> Option<String>;
    /// Makes changes of the store, all of them or none.
    ///
    /// # Errors
    ///
    /// Those of [`XenPlatform::change_store`].
    fn change_store(&self, changes: &[Change]) -> Result<(), StoreError>;
    /// Rings a bell after each change of a node or below it.
    ///
    /// # Errors
    ///
    /// Those of [`XenPlatform::watch_store`].
    fn watch_store(&self, path: &str, bell: Arc<dyn Doorbell>) -> Result<(), StoreError>;
    /// Takes the host's end of an event channel that the guest has made for it.
    ///
    /// # Errors
    ///
    /// Those of [`XenPlatform::bind_port`].
    fn bind_port(&self, port: Port, bell: Arc<dyn Doorbell>) -> Result<HostPort, Errno>;
    /// Sends the guest an event.
    fn notify_port(&self, end: HostPort);
    /// Gives the host's end back.
    fn unbind_port(&self, end: HostPort);
}

impl Guest for XenPlatform {
    fn domid(&self) -> DomId {
        self.domid()
    }

    fn ram(&self) -> &Arc<GuestRam> {
        self.ram()
    }

    fn host_grants(&self) -> HostGrants<Arc<GuestRam>> {
        self.host_grants()
    }

    fn key(&self, path: &str) -> Option<String> {
        let value = self.read_store(|store| store.read(path).map(<[u8]>::to_vec));
        String::from_utf8(value?).ok()
    }

    fn change_store(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.change_store(changes)
    }

    fn watch_store(&self, path: &str, bell: Arc<dyn Doorbell>) -> Result<(), StoreError> {
        self.watch_store(path, bell)
    }

    fn bind_port(&self, port: Port, bell: Arc<dyn Doorbell>) -> Result<HostPort, Errno> {
        self.bind_port(port, bell)
    }

    fn notify_port(&self, end: HostPort) {
        self.notify_port(end);
    }

    fn unbind_port(&self, end: HostPort) {
        self.unbind_port(end);
    }
}
