//! The store itself: its tree, its clients, and how domains and the host connect.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pvh_abi::{DomId, Errno};

use crate::{
    Limits, Usage,
    client::{Client, ClientId, HostId, TOOLSTACK},
    node::Node,
    outbox::Outbox,
    permission::{Access, Permission, is_privileged},
    wire::Message,
};

/// The store: a tree of nodes, and the clients that use it.
///
/// Domain 0 is the toolstack. It is connected from the start, and neither permissions nor limits
/// hold for it. The host uses methods or messages; guests use messages.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: HashMap<Box<[u8]>, Arc<Node>>,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    /// The permissions of `@introduceDomain` and `@releaseDomain`.
    pub(crate) special: BTreeMap<&'static [u8], Vec<Permission>>,
    pub(crate) generation: u64,
    pub(crate) limits: Limits,
    next_host: u64,
}

/// Why the store refused a request of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the store answered {}", .errno.name().unwrap_or("an error without a name"))]
#[non_exhaustive]
pub struct StoreError {
    /// The error that a client gets in an ERROR message.
    pub errno: Errno,
}

pub(crate) const INTRODUCE_DOMAIN: &[u8] = b"@introduceDomain";
pub(crate) const RELEASE_DOMAIN: &[u8] = b"@releaseDomain";

impl Store {
    /// Makes a store with the nodes `/` and `/tool/xenstored`, which only domain 0 may use.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let private = vec![Permission::new(DomId(0), Access::None)];
        let special = [INTRODUCE_DOMAIN, RELEASE_DOMAIN];
        let mut store = Self {
            tree: HashMap::new(),
            clients: BTreeMap::new(),
            special: special.map(|name| (name, private.clone())).into(),
            generation: 0,
            limits,
            next_host: 1,
        };
        store.clients.insert(DomId(0).into(), Client::new(DomId(0)));
        store.insert(b"/", Node::new(private));
        // Domain 0 may write every valid path.
        let _ = store.write("/tool/xenstored", b"");
        store
    }

    /// Connects a domain. A connected domain is reset, see [`Store::reset`].
    ///
    /// Connect a domain before you write its keys: a permission entry grants nothing if its domain
    /// was not connected when the entry was made.
    pub fn introduce(&mut self, domid: DomId) {
        let id = ClientId::Domain(domid);
        if self.clients.contains_key(&id) {
            self.reset(domid);
            return;
        }
        self.clients.insert(id, Client::new(domid));
        self.fire_special(INTRODUCE_DOMAIN);
    }

    /// Disconnects a domain. The nodes that it owns are removed with all nodes below, and so are
    /// the permission entries that name it. Domain 0 stays.
    ///
    /// It visits all nodes of the store.
    pub fn release(&mut self, domid: DomId) {
        let client = ClientId::Domain(domid);
        if is_privileged(domid) || !self.clients.contains_key(&client) {
            return;
        }
        self.reset(domid);
        let id = u32::from(domid.0);
        let nodes = self.tree.iter().filter(|(_, node)| node.owner() == id);
        let mut owned: Vec<Box<[u8]>> = nodes.map(|(path, _)| path.clone()).collect();
        // Fire watches in the same order each time.
        owned.sort_unstable();
        for path in owned {
            if &*path != b"/" && self.tree.contains_key(&path) {
                // Domain 0 may remove every node.
                let _ = self.remove_tree(TOOLSTACK, &path);
            }
        }
        self.forget(id);
        self.clients.remove(&client);
        self.fire_special(RELEASE_DOMAIN);
    }

    /// Removes a domain from all permissions. Domain 0 becomes the owner of nodes that it still
    /// owns.
    fn forget(&mut self, id: u32) {
        let is_named = |node: &Node| node.permissions.iter().any(|entry| entry.domid() == id);
        let nodes = self.tree.iter().filter(|(_, node)| is_named(node));
        let named: Vec<_> = nodes
            .map(|(path, node)| (path.clone(), Node::clone(node)))
            .collect();
        for (path, mut node) in named {
            forget_in(&mut node.permissions, id);
            self.insert(&path, node);
        }
        for permissions in self.special.values_mut() {
            forget_in(permissions, id);
        }
    }

    /// Makes a connection of the host. It has domain 0's rights, and its own watches, transactions
    /// and waiting events.
    ///
    /// Each watch makes each change of the store a little slower, because a change compares its
    /// path with the watches of all clients.
    pub fn connect_host(&mut self) -> HostId {
        let id = HostId(self.next_host);
        self.next_host = self.next_host.wrapping_add(1);
        self.clients.insert(id.into(), Client::new(DomId(0)));
        id
    }

    /// Ends a connection of the host. Its watches, transactions and waiting messages are dropped.
    pub fn disconnect_host(&mut self, id: HostId) {
        self.clients.remove(&ClientId::Host(id));
    }

    /// Drops a client's watches, transactions and waiting messages, as for a new connection.
    pub fn reset(&mut self, id: impl Into<ClientId>) {
        if let Some(client) = self.clients.get_mut(&id.into()) {
            client.drop_requests();
            client.outbox = Outbox::default();
        }
    }

    /// Takes the oldest message that waits for a client.
    pub fn take_message(&mut self, id: impl Into<ClientId>) -> Option<Message> {
        self.clients.get_mut(&id.into())?.next_message()
    }

    /// Tells whether the store would take a request of this client now.
    ///
    /// The store takes none while [`Limits::outstanding`] replies wait. It takes none of a domain
    /// above [`Limits::memory_bytes`] while messages wait for that domain.
    #[must_use]
    pub fn is_ready(&self, id: impl Into<ClientId>) -> bool {
        let id = id.into();
        let Some(client) = self.clients.get(&id) else {
            return false;
        };
        let is_full =
            client.memory_bytes() >= self.limits.memory_bytes && client.outbox.bytes() > 0;
        client.outbox.replies() < self.limits.outstanding && (is_privileged(id.domid()) || !is_full)
    }

    /// Tells what a client has, or `None` if it is not connected.
    #[must_use]
    pub fn usage(&self, id: impl Into<ClientId>) -> Option<Usage> {
        let client = self.clients.get(&id.into())?;
        Some(Usage {
            nodes: client.nodes,
            watches: client.watches.len(),
            transactions: client.transactions.len(),
            outstanding: client.outbox.replies(),
            memory_bytes: client.memory_bytes(),
        })
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Removes a domain from permissions.
fn forget_in(permissions: &mut Vec<Permission>, id: u32) {
    if let Some(owner) = permissions.first_mut()
        && owner.domid() == id
    {
        *owner = owner.given_to(DomId(0));
    }
    permissions.retain(|entry| entry.domid() != id);
}

impl From<Errno> for StoreError {
    fn from(errno: Errno) -> Self {
        Self { errno }
    }
}
