//! Host connections: typed calls for back ends and for servers of the host.

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

/// One connection of the host, borrowed from the store for a few calls; see [`Store::host`].
///
/// It has domain 0's rights: neither permissions nor limits hold for it. Relative paths begin at
/// `/local/domain/0`. No call waits.
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
/// An event names the node that has changed, not the change. Take the event first and read the node
/// after it.
///
/// The path is the watched path itself in the first event of a watch, and in the event that stands
/// for events without room. Then every node at or below this path may have changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Path and token, each with a NUL.
    payload: Arc<[u8]>,
}

/// The longest token of a host's watch in bytes, so that an event with the longest path fits a
/// message.
const MAX_TOKEN_BYTES: usize = 1024;

impl Store {
    /// Borrows a connection of the host for calls.
    ///
    /// The calls of a connection that has ended return ENOENT.
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

/// Each call returns EINVAL for a path that no node can have, and ENOENT for a connection or a
/// transaction that has ended.
impl Host<'_> {
    /// Returns the same connection inside a transaction. Reads see the transaction's changes.
    /// Changes reach the tree with the commit.
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

    /// Writes a node's value. Missing nodes are made with the permissions of the nearest node
    /// above.
    ///
    /// The length of the value has no limit. A guest can read at most 4096 bytes.
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

    /// Removes a node and all nodes below. A missing node is no error if the node above exists.
    ///
    /// # Errors
    ///
    /// EINVAL for the root, ENOENT if the node above does not exist.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        let path = self.path(path)?;
        Ok(self.store.remove_path(self.by, &path)?)
    }

    /// Sets the permissions of a node, or of a special path. The first entry names the owner.
    ///
    /// An entry for a domain that is not connected grants nothing, also if such a domain is
    /// connected later.
    ///
    /// # Errors
    ///
    /// EINVAL without an entry, ENOENT if the node does not exist or the owner is not connected.
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

    /// Starts a transaction.
    ///
    /// # Errors
    ///
    /// EBUSY inside a transaction.
    pub fn start(&mut self) -> Result<TransactionId, StoreError> {
        self.connected()?;
        Ok(TransactionId(self.store.start_transaction(self.by)?))
    }

    /// Ends a transaction and makes all of its changes, or none. Watches fire for the changed nodes
    /// in the order in which the transaction first touched them.
    ///
    /// # Errors
    ///
    /// EAGAIN if a node that the transaction touched has changed outside since: start again. ENOSPC
    /// if a guest would own too many nodes. Nothing is changed then.
    pub fn commit(&mut self, transaction: TransactionId) -> Result<(), StoreError> {
        self.end(transaction, true)
    }

    /// Ends a transaction and drops its changes. No watch fires.
    ///
    /// # Errors
    ///
    /// See [`Host`].
    pub fn abort(&mut self, transaction: TransactionId) -> Result<(), StoreError> {
        self.end(transaction, false)
    }

    /// Sets a watch. Each change of the node and of nodes below queues an [`Event`] with this
    /// token, also if the node is removed together with a node above. The first event is queued at
    /// once.
    ///
    /// The special paths `@introduceDomain` and `@releaseDomain` report that a domain was connected
    /// or released, not which one.
    ///
    /// # Errors
    ///
    /// EEXIST if the connection has this watch already, EINVAL for a token with a NUL or of more
    /// than 1024 bytes.
    pub fn watch(&mut self, path: &str, token: &[u8]) -> Result<(), StoreError> {
        self.connected()?;
        if path.contains('\0') || token.contains(&0) || token.len() > MAX_TOKEN_BYTES {
            return Err(Errno::EINVAL.into());
        }
        self.store.add_watch(self.by, path.as_bytes(), token)?;
        self.store.fire_first(self.by.client);
        Ok(())
    }

    /// Removes a watch. Events that wait already stay in the queue.
    ///
    /// # Errors
    ///
    /// ENOENT if the connection has no such watch.
    pub fn unwatch(&mut self, path: &str, token: &[u8]) -> Result<(), StoreError> {
        Ok(self.store.remove_watch(self.by, path.as_bytes(), token)?)
    }

    /// Takes the oldest waiting event.
    ///
    /// Events come in the order of the changes. An event that equals a waiting one is not queued
    /// again.
    ///
    /// At most [`crate::Limits::memory_bytes`] of events wait for each connection. An event costs
    /// its path and token, and 114 bytes. A watch whose event finds no room queues no event until
    /// the connection has taken all waiting ones. Then the watch reports its own path once. So
    /// guests can make the host read a subtree again, but they cannot make it miss a change.
    ///
    /// Use either this call or [`Store::take_message`] on a connection. This call drops replies to
    /// messages.
    pub fn take_event(&mut self) -> Option<Event> {
        loop {
            let message = self.store.take_message(self.by.client)?;
            if message.header.kind.get() == MessageType::WATCH_EVENT.0 {
                return Some(Event {
                    payload: message.payload,
                });
            }
        }
    }

    fn end(&mut self, transaction: TransactionId, is_commit: bool) -> Result<(), StoreError> {
        let by = Caller {
            transaction: Some(transaction.0),
            ..self.by
        };
        Ok(self.store.end_transaction(by, is_commit)?)
    }

    /// Makes a path absolute if the connection has not ended.
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
    /// Returns the path of the changed node. It is relative if the watch was set on a relative
    /// path.
    #[must_use]
    pub fn path(&self) -> &str {
        // Paths are ASCII, but for special paths that the host chose.
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
