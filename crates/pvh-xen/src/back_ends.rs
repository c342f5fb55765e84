//! What back ends of the host do with the guest: its grants, its store, its event channels.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use pvh_abi::{DomId, Errno, event_channel::Port};
use pvh_domain::{Domain, HostGrants, HostPort};
use pvh_kvm::GuestRam;
use pvh_xenbus::Change;
use pvh_xenstore::{HostId, Store, StoreError};

use crate::{XenPlatform, effects::Backpressure};

/// Wakes the thread of a back end.
///
/// The platform calls it from any thread, also under the domain's lock, and as often as the guest
/// likes. It must return at once and must not call the platform: write to an eventfd, for example.
pub trait Doorbell: fmt::Debug + Send + Sync {
    /// Something may have happened. Rings that come before the thread looks are one.
    fn ring(&self);
}

/// The doorbells of a platform. Each back end has a few; a guest cannot add any.
#[derive(Debug, Default)]
pub(crate) struct BackEnds {
    /// The connection to the store that all back ends share, from the first watch on.
    connection: OnceLock<HostId>,
    bells: Mutex<Bells>,
}

#[derive(Debug, Default)]
struct Bells {
    /// By the token of a watch of the store.
    watches: BTreeMap<u64, Arc<dyn Doorbell>>,
    ports: HashMap<HostPort, Arc<dyn Doorbell>>,
}

/// For back ends of the host. The calls take the domain's lock, as a guest's hypercall does, and wait
/// for nothing else. Call them from a thread of the embedder's, without a lock that a
/// [`Doorbell`] takes.
impl XenPlatform {
    /// Returns the id of the guest's domain.
    #[must_use]
    pub const fn domid(&self) -> DomId {
        crate::platform::DOMAIN
    }

    /// Returns the guest's memory.
    #[must_use]
    pub const fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// Returns the guest's grants to the host. They work without the domain's lock.
    #[must_use]
    pub fn host_grants(&self) -> HostGrants<Arc<GuestRam>> {
        self.domain().host_grants(Arc::clone(&self.ram))
    }

    /// Reads the store. The guest cannot change it meanwhile: read what belongs together in one call.
    pub fn read_store<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(self.domain().store())
    }

    /// Changes the store as domain 0. The guest sees all of the changes at once.
    ///
    /// # Errors
    ///
    /// As [`Domain::change_store`].
    pub fn change_store(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.change_store(memory, now, changes, effects)
        })
    }

    /// Rings a bell whenever a node changes, or one below it, and once at once. It stays until the
    /// end of the machine.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a path that no node can have.
    pub fn watch_store(&self, path: &str, bell: Arc<dyn Doorbell>) -> Result<(), StoreError> {
        let BackEnds { connection, bells } = &self.back_ends;
        self.with_domain(Backpressure::Ignore, |domain, _, _, _| {
            let connection = *connection.get_or_init(|| domain.connect_to_store());
            let mut bells = lock(bells);
            let token = bells.watches.len() as u64;
            domain.watch_store(connection, path, token.to_string().as_bytes())?;
            bells.watches.insert(token, bell);
            Ok(())
        })
    }

    /// Joins an end of the host's to a port of the guest's. From now on, the bell is rung when the
    /// guest raises its event.
    ///
    /// # Errors
    ///
    /// As [`Domain::bind_port`].
    pub fn bind_port(&self, port: Port, bell: Arc<dyn Doorbell>) -> Result<HostPort, Errno> {
        let bells = &self.back_ends.bells;
        self.with_domain(Backpressure::Ignore, |domain, _, _, _| {
            let end = domain.bind_port(port)?;
            // Under the domain's lock: no event can be raised before the bell is there.
            lock(bells).ports.insert(end, bell);
            Ok(end)
        })
    }

    /// Raises the event of the guest's port that an end is joined to.
    pub fn notify_port(&self, end: HostPort) {
        self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.notify_port(memory, now, end, effects);
        });
    }

    /// Gives up an end.
    pub fn unbind_port(&self, end: HostPort) {
        let bells = &self.back_ends.bells;
        self.with_domain(Backpressure::Ignore, |domain, _, _, _| {
            lock(bells).ports.remove(&end);
            domain.unbind_port(end);
        });
    }

    /// Rings the bells of the watches that have fired in a call of the domain, each once.
    pub(crate) fn ring_for_store(&self, domain: &mut Domain) {
        let Some(&connection) = self.back_ends.connection.get() else {
            return;
        };
        let mut tokens = BTreeSet::new();
        while let Some(event) = domain.take_store_event(connection) {
            let token = std::str::from_utf8(event.token()).ok();
            tokens.extend(token.and_then(|token| token.parse::<u64>().ok()));
        }
        if tokens.is_empty() {
            return;
        }
        let bells = lock(&self.back_ends.bells);
        let rung = tokens.iter().filter_map(|token| bells.watches.get(token));
        rung.for_each(|bell| bell.ring());
    }

    /// Rings the bell of an end whose event the guest has raised.
    pub(crate) fn ring_for_port(&self, end: HostPort) {
        let bell = lock(&self.back_ends.bells).ports.get(&end).cloned();
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}

fn lock(bells: &Mutex<Bells>) -> MutexGuard<'_, Bells> {
    bells.lock().unwrap_or_else(PoisonError::into_inner)
}
