//! What the back end of a disk needs of its guest.

use std::sync::Arc;

use pvh_abi::{DomId, Errno, event_channel::Port};
use pvh_domain::{HostGrants, HostPort};
use pvh_kvm::GuestRam;
use pvh_xen::{Doorbell, XenPlatform};
use pvh_xenbus::Change;
use pvh_xenstore::StoreError;

/// A guest as its back ends see it: a Xen platform, or a domain without a machine in tests.
pub(crate) trait GuestSide: Send + Sync + 'static {
    fn domid(&self) -> DomId;
    fn ram(&self) -> &Arc<GuestRam>;
    fn host_grants(&self) -> HostGrants<Arc<GuestRam>>;
    /// Returns the value of a node of the store, if it is text.
    fn key(&self, path: &str) -> Option<String>;
    fn change_store(&self, changes: &[Change]) -> Result<(), StoreError>;
    fn watch_store(&self, path: &str, bell: Arc<dyn Doorbell>) -> Result<(), StoreError>;
    fn bind_port(&self, port: Port, bell: Arc<dyn Doorbell>) -> Result<HostPort, Errno>;
    fn notify_port(&self, end: HostPort);
    fn unbind_port(&self, end: HostPort);
}

impl GuestSide for XenPlatform {
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
