//! The calls that back ends of the host make: for grants, the store and event channels.

use pvh_abi::{Errno, event_channel::Port};
use pvh_memory::Frames;
use pvh_xenbus::Change;
use pvh_xenstore::{Event, HostId, Store, StoreError};

use super::{
    Domain, Effect, Env, Input, Now, Output, input::BackEndInput as Call, no_memory::NoMemory,
};
use crate::parts::{event::HostPort, grant::HostGrants};

/// For back ends of the host. No call waits; each works on what it is given and no more.
///
/// Connections and watches of the host do not change what the guest sees, so a trace does not hold
/// them. All other calls that change something are recorded.
impl Domain {
    /// Returns the guest's grants to the host, which work without a lock around the domain.
    /// `memory` points to the memory that the calls of this domain bring along.
    #[must_use]
    pub fn host_grants<M>(&self, memory: M) -> HostGrants<M> {
        self.grants.host_grants(memory)
    }

    /// Returns the store, to read it.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Changes the store as domain 0, then gives the guest the events of its watches. The guest sees
    /// all of the changes at once.
    ///
    /// # Errors
    ///
    /// The first error of the store; the changes before it are made. A node that is removed already
    /// is no error.
    pub fn change_store(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        changes: &[Change],
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let input = Call::ChangeStore { changes, now };
        self.apply(memory, effects, Input::BackEnd(input)).into()
    }

    /// Makes a connection of the host to the store, for watches.
    pub fn connect_to_store(&mut self) -> HostId {
        self.store.connect_host()
    }

    /// Ends a connection of the host, with its watches and waiting events.
    pub fn disconnect_from_store(&mut self, connection: HostId) {
        self.store.disconnect_host(connection);
    }

    /// Sets a watch of a connection. Its first event waits at once.
    ///
    /// # Errors
    ///
    /// As [`pvh_xenstore::Host::watch`].
    pub fn watch_store(
        &mut self,
        connection: HostId,
        path: &str,
        token: &[u8],
    ) -> Result<(), StoreError> {
        self.store.host(connection).watch(path, token)
    }

    /// Removes a watch of a connection.
    ///
    /// # Errors
    ///
    /// ENOENT if the connection has no such watch.
    pub fn unwatch_store(
        &mut self,
        connection: HostId,
        path: &str,
        token: &[u8],
    ) -> Result<(), StoreError> {
        self.store.host(connection).unwatch(path, token)
    }

    /// Takes the oldest event that waits for a connection. Any call of the domain may leave some: the
    /// guest writes to the store in its hypercalls.
    pub fn take_store_event(&mut self, connection: HostId) -> Option<Event> {
        self.store.host(connection).take_event()
    }

    /// Joins an end of the host's to a port that the guest has made for domain 0. From now on,
    /// [`Effect::Notified`] tells that the guest has raised its event.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that does not wait for domain 0.
    pub fn bind_port(&mut self, port: Port) -> Result<HostPort, Errno> {
        let input = Input::BackEnd(Call::BindPort { port });
        self.apply(&NoMemory, &mut Vec::new(), input).into()
    }

    /// Raises the event of the guest's port that an end is joined to. It is dropped if the guest has
    /// closed its port.
    pub fn notify_port(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        end: HostPort,
        effects: &mut Vec<Effect>,
    ) {
        let input = Call::NotifyPort { end, now };
        self.apply(memory, effects, Input::BackEnd(input));
    }

    /// Gives up an end that was bound. The guest's port waits for domain 0 again.
    pub fn unbind_port(&mut self, end: HostPort) {
        let input = Input::BackEnd(Call::UnbindPort { end });
        self.apply(&NoMemory, &mut Vec::new(), input);
    }

    /// Does what a back end asks for, unrecorded.
    pub(super) fn act_for_back_end(
        &mut self,
        memory: &dyn Frames,
        effects: &mut Vec<Effect>,
        input: Call<'_>,
    ) -> Output {
        match input {
            Call::ChangeStore { changes, now } => {
                let env = &mut Env::new(memory, now, effects);
                return Output::Stored(self.apply_changes(env, changes));
            }
            Call::BindPort { port } => return Output::Bound(self.events.connect_host(port)),
            Call::NotifyPort { end, now } => self.notify(&mut Env::new(memory, now, effects), end),
            Call::UnbindPort { end } => self.give_up_port(end),
        }
        Output::Nothing
    }

    fn apply_changes(&mut self, env: &mut Env<'_>, changes: &[Change]) -> Result<(), StoreError> {
        let mut changes = changes.iter();
        let changed = changes.try_for_each(|change| match change {
            Change::Write { path, value } => self.store.write(path, value.as_bytes()),
            Change::Permit { path, permissions } => self.store.set_permissions(path, permissions),
            Change::Remove { path } if self.store.read(path).is_some() => self.store.remove(path),
            Change::Remove { .. } => Ok(()),
        });
        self.serve_store(env);
        changed
    }

    /// The ports of the console and of the store stay: the domain serves them itself.
    fn give_up_port(&mut self, end: HostPort) {
        if end != self.console_end && end != self.store_end {
            self.events.close_host(end);
        }
    }
}
