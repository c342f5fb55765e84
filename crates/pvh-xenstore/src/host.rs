//! The host's connections: what back ends and servers of the host ask, by typed methods.

use std::sync::Arc;

use pvh_abi::Errno;

use crate::{
    Permission,
    client::{Caller, ClientId, HostId},
    permission::READ,
    store::{Store, StoreError},
    text::first_string,
    wire::MessageType,
};

/// One connection of the host for the time of a few calls; see [`Store::host`].
///
/// It has domain 0's rights: no permission and no limit holds for it. Relative paths begin at
/// `/local/domain/0`. No call waits for anything.
#[derive(Debug)]
pub struct Host<'a> {
    store: &'a mut Store,
    by: Caller,
}

/// A transaction of a host connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TransactionId(u32);

/// A watch of the host has fired.
///
/// The event says where to look, not what is there: read the node after the event was taken. The path is that of
/// the changed node. It is the path that is watched in the first event of a watch, and after events that
/// found no room: then anything at or below that path may have changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Path and token, each with a NUL.
    payload: Arc<[u8]>,
}

/// The longest token of a host's watch in bytes, so that an event with the longest path fits a message.
const MAX_TOKEN_BYTES: usize = 1024;

impl Store {
    /// Returns a connection of the host, to make calls.
    ///
    /// The methods of a connection that has ended all answer ENOENT.
    pub fn host(&mut self, id: HostId) -> Host<'_> {
        Host {
            store: self,
            by: Caller {
                client: ClientId::Host(id),
                transaction: None,
            },
        }
    }
}

/// Each method that returns an error may return EINVAL for a path that cannot be a node's, and ENOENT for a connection
/// or a transaction that has ended.
impl Host<'_> {
    /// Returns the same connection inside a transaction: reads see its changes, and changes wait for its commit.
    #[must_use]
    pub fn within(mut self, transaction: TransactionId) -> Self {
        self.by.transaction = Some(transaction.0);
        self
    }

    /// Returns a node's value.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such node.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(path)?;
        Ok(self.store.node(self.by, &path, READ)?.value.clone())
    }

    /// Returns the names of a node's children, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such node.
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(path)?;
        let node = self.store.node(self.by, &path, READ)?;
        let names = node.child_names();
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Returns a node's permissions; the first entry names its owner.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such node.
    pub fn permissions(&mut self, path: &str) -> Result<Vec<Permission>, StoreError> {
        let path = self.path(path)?;
        Ok(self.store.node(self.by, &path, READ)?.permissions.clone())
    }

    /// Writes a node's value; makes the node, and missing nodes above it, with the permissions of the nearest node above.
    ///
    /// No limit holds for the value, but a guest cannot read one of more than 4096 bytes.
    ///
    /// # Errors
    ///
    /// See [`Host`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path(path)?;
        Ok(self.store.set_value(self.by, &path, value)?)
    }

    /// Makes a node with an empty value, as [`Host::write`] does, unless it exists.
    ///
    /// # Errors
    ///
    /// See [`Host`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        let path = self.path(path)?;
        Ok(self.store.make(self.by, &path)?)
    }

    /// Removes a node and all nodes below it. A node that does not exist is no error if the node above it does.
    ///
    /// # Errors
    ///
    /// EINVAL for the root, ENOENT if the node above does not exist.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        let path = self.path(path)?;
        Ok(self.store.remove_path(self.by, &path)?)
    }

    /// Sets a node's permissions, the first entry naming its owner; or who is told of a special path.
    ///
    /// An entry for a domain that is not connected grants nothing, not even to a domain that is connected later.
    ///
    /// # Errors
    ///
    /// EINVAL without an entry, ENOENT if the node or the domain of the first entry does not exist.
    pub fn set_permissions(
        &mut self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        let path = self.path(path)?;
        Ok(self
            .store
            .set_entries(self.by, &path, permissions.to_vec())?)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// EBUSY inside a transaction.
    pub fn start(&mut self) -> Result<TransactionId, StoreError> {
        self.connected()?;
        Ok(TransactionId(self.store.start_transaction(self.by)?))
    }

    /// Makes a transaction's changes, all or none, and ends it. Watches fire for the changed nodes in the order in
    /// which the transaction first touched them.
    ///
    /// # Errors
    ///
    /// EAGAIN if a node that it touched has changed outside since: nothing is changed, begin anew. ENOSPC if a guest
    /// would own too many nodes.
    pub fn commit(&mut self, transaction: TransactionId) -> Result<(), StoreError> {
        self.end(transaction, true)
    }

    /// Drops a transaction; no watch fires.
    ///
    /// # Errors
    ///
    /// See [`Host`].
    pub fn abort(&mut self, transaction: TransactionId) -> Result<(), StoreError> {
        self.end(transaction, false)
    }

    /// Sets a watch: each change of the node and of nodes below makes an [`Event`] with this token, and so does the
    /// removal of a node above. The first event comes at once.
    ///
    /// `@introduceDomain` and `@releaseDomain` tell of domains that are connected and released.
    ///
    /// # Errors
    ///
    /// EEXIST if the connection has such a watch, EINVAL for a token with a NUL or of more than 1024 bytes.
    pub fn watch(&mut self, path: &str, token: &[u8]) -> Result<(), StoreError> {
        self.connected()?;
        if path.contains('\0') || token.contains(&0) || token.len() > MAX_TOKEN_BYTES {
            return Err(Errno::EINVAL.into());
        }
        self.store.add_watch(self.by, path.as_bytes(), token)?;
        self.store.fire_first(self.by.client);
        Ok(())
    }

    /// Takes a watch back. Its events that wait already still come.
    ///
    /// # Errors
    ///
    /// ENOENT if the connection has no such watch.
    pub fn unwatch(&mut self, path: &str, token: &[u8]) -> Result<(), StoreError> {
        Ok(self.store.remove_watch(self.by, path.as_bytes(), token)?)
    }

    /// Takes the oldest event that waits.
    ///
    /// Events come in the order of the changes. An event that equals one that still waits is not added.
    /// At most [`crate::Limits::memory_bytes`] wait for each connection, with 114 bytes for each event beside path and token.
    /// A watch whose event finds no room adds none until all that wait were taken, and then one with the path that is watched:
    /// guests can make the host read again, but no change is missed.
    ///
    /// Use either this method or [`Store::take_message`] on a connection: replies to messages are not events.
    pub fn take_event(&mut self) -> Option<Event> {
        let message = self.store.take_message(self.by.client)?;
        let is_event = message.header.kind.get() == MessageType::WATCH_EVENT.0;
        is_event.then_some(Event {
            payload: message.payload,
        })
    }

    fn end(&mut self, transaction: TransactionId, is_commit: bool) -> Result<(), StoreError> {
        let by = Caller {
            transaction: Some(transaction.0),
            ..self.by
        };
        Ok(self.store.end_transaction(by, is_commit)?)
    }

    /// Makes a path absolute, on a connection that has not ended.
    fn path(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.connected()?;
        Ok(self.store.absolute(self.by, path.as_bytes()))
    }

    fn connected(&self) -> Result<(), StoreError> {
        match self.store.clients.contains_key(&self.by.client) {
            true => Ok(()),
            false => Err(Errno::ENOENT.into()),
        }
    }
}

impl Event {
    /// Returns the path: as long as the path of the watch was relative, it is, too.
    #[must_use]
    pub fn path(&self) -> &str {
        // Paths of nodes are ASCII.
        std::str::from_utf8(self.parts().0).unwrap_or_default()
    }

    /// Returns the token that the watch was set with.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        self.parts().1
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (path, rest) = first_string(&self.payload).unwrap_or_default();
        (path, rest.strip_suffix(b"\0").unwrap_or(rest))
    }
}
