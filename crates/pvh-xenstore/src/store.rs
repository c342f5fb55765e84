use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pvh_abi::{DomId, Errno};

use crate::{
    Limits, Usage,
    client::{Client, TOOLSTACK},
    node::Node,
    outbox::Outbox,
    permission::{Access, Permission, is_privileged},
    wire::Message,
};

/// The store: a tree of nodes, and the clients that use it.
///
/// Domain 0 is the toolstack, above permissions and limits; it is there from the start. What it asks comes
/// by methods or by messages, what a guest asks by messages only.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: HashMap<Box<[u8]>, Arc<Node>>,
    pub(crate) clients: BTreeMap<DomId, Client>,
    /// Who gets `@introduceDomain` and `@releaseDomain`.
    pub(crate) special: BTreeMap<&'static [u8], Vec<Permission>>,
    pub(crate) generation: u64,
    pub(crate) limits: Limits,
}

/// Why the toolstack's wish was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the store answers {}", .errno.name().unwrap_or("an error without name"))]
#[non_exhaustive]
pub struct StoreError {
    /// What a client would have been answered.
    pub errno: Errno,
}

pub(crate) const INTRODUCE_DOMAIN: &[u8] = b"@introduceDomain";
pub(crate) const RELEASE_DOMAIN: &[u8] = b"@releaseDomain";

impl Store {
    /// Makes a store with the nodes `/` and `/tool/xenstored`, which only the toolstack may touch.
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
        };
        store.clients.insert(DomId(0), Client::new(DomId(0)));
        store.insert(b"/", Node::new(private));
        // Nothing can refuse the toolstack a valid path.
        let _ = store.write("/tool/xenstored", b"");
        store
    }

    /// Connects a domain, or connects it anew: its watches, transactions and messages are gone then.
    ///
    /// A permission entry for a domain that is not connected is void, so this comes before its keys.
    pub fn introduce(&mut self, domid: DomId) {
        if self.clients.contains_key(&domid) {
            self.reset(domid);
            return;
        }
        self.clients.insert(domid, Client::new(domid));
        self.fire_special(INTRODUCE_DOMAIN);
    }

    /// Ends a domain: the nodes it owns go, with all below, and so do permission entries that name it.
    pub fn release(&mut self, domid: DomId) {
        if is_privileged(domid) || !self.clients.contains_key(&domid) {
            return;
        }
        self.reset(domid);
        let id = u32::from(domid.0);
        let nodes = self.tree.iter().filter(|(_, node)| node.owner() == id);
        let owned: Vec<Box<[u8]>> = nodes.map(|(path, _)| path.clone()).collect();
        for path in owned {
            if &*path != b"/" && self.tree.contains_key(&path) {
                // The toolstack is refused nothing that is there.
                let _ = self.remove_tree(TOOLSTACK, &path);
            }
        }
        self.forget(id);
        self.clients.remove(&domid);
        self.fire_special(RELEASE_DOMAIN);
    }

    /// Takes a domain out of all permissions; what it still owns becomes the toolstack's.
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

    /// Drops a domain's watches, transactions and waiting messages, as when its connection is made anew.
    pub fn reset(&mut self, domid: DomId) {
        if let Some(client) = self.clients.get_mut(&domid) {
            client.drop_requests();
            client.outbox = Outbox::default();
        }
    }

    /// Takes the oldest message that waits for a domain.
    pub fn take_message(&mut self, domid: DomId) -> Option<Message> {
        self.clients.get_mut(&domid)?.outbox.pop()
    }

    /// Tells whether a request of this domain would be taken now.
    ///
    /// It is not while [`Limits::outstanding`] replies wait, nor while messages wait and the domain is above
    /// [`Limits::memory_bytes`].
    #[must_use]
    pub fn is_ready(&self, domid: DomId) -> bool {
        let Some(client) = self.clients.get(&domid) else {
            return false;
        };
        let is_full =
            client.memory_bytes() >= self.limits.memory_bytes && client.outbox.bytes() > 0;
        client.outbox.replies() < self.limits.outstanding && (is_privileged(domid) || !is_full)
    }

    /// Tells what a domain has, or `None` if it is not connected.
    #[must_use]
    pub fn usage(&self, domid: DomId) -> Option<Usage> {
        let client = self.clients.get(&domid)?;
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

/// Takes a domain out of permissions.
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
