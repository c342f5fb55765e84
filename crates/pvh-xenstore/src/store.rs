use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pvh_abi::{DomId, Errno};

use crate::{
    Limits, Usage,
    node::Node,
    outbox::Outbox,
    path,
    permission::{Access, Permission, is_privileged},
    transaction::Transaction,
    watch::Watch,
    wire::Message,
};

/// The store: a tree of nodes, and the domains that use it.
///
/// Domain 0 is the toolstack, above permissions and limits; it is there from the start. What it asks comes
/// by methods or by messages, what a guest asks by messages only.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: HashMap<Box<[u8]>, Arc<Node>>,
    pub(crate) domains: BTreeMap<DomId, Domain>,
    /// Who gets `@introduceDomain` and `@releaseDomain`.
    pub(crate) special: BTreeMap<&'static [u8], Vec<Permission>>,
    pub(crate) generation: u64,
    pub(crate) limits: Limits,
}

/// One client.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    pub(crate) home: Vec<u8>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) transactions: BTreeMap<u32, Transaction>,
    pub(crate) next_transaction: u32,
    pub(crate) outbox: Outbox,
    /// Nodes it owns.
    pub(crate) nodes: usize,
    /// What its nodes, watches and transactions cost.
    pub(crate) bytes: usize,
}

/// Who asks, and in which transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) domid: DomId,
    pub(crate) transaction: Option<u32>,
}

/// Why the toolstack's wish was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the store answers {}", .errno.name().unwrap_or("an error without name"))]
#[non_exhaustive]
pub struct StoreError {
    /// What a client would have been answered.
    pub errno: Errno,
}

pub(crate) const TOOLSTACK: Caller = Caller {
    domid: DomId(0),
    transaction: None,
};

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
            domains: BTreeMap::new(),
            special: special.map(|name| (name, private.clone())).into(),
            generation: 0,
            limits,
        };
        store.domains.insert(DomId(0), Domain::new(DomId(0)));
        store.insert(b"/", Node::new(private));
        // Nothing can refuse the toolstack a valid path.
        let _ = store.write("/tool/xenstored", b"");
        store
    }

    /// Connects a domain, or connects it anew: its watches, transactions and messages are gone then.
    ///
    /// A permission entry for a domain that is not connected is void, so this comes before its keys.
    pub fn introduce(&mut self, domid: DomId) {
        if self.domains.contains_key(&domid) {
            self.reset(domid);
            return;
        }
        self.domains.insert(domid, Domain::new(domid));
        self.fire_special(INTRODUCE_DOMAIN);
    }

    /// Ends a domain: the nodes it owns go, with all below, and so do permission entries that name it.
    pub fn release(&mut self, domid: DomId) {
        if is_privileged(domid) || !self.domains.contains_key(&domid) {
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
        self.domains.remove(&domid);
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
        if let Some(domain) = self.domains.get_mut(&domid) {
            domain.drop_requests();
            domain.outbox = Outbox::default();
        }
    }

    /// Takes the oldest message that waits for a domain.
    pub fn take_message(&mut self, domid: DomId) -> Option<Message> {
        self.domains.get_mut(&domid)?.outbox.pop()
    }

    /// Tells whether a request of this domain would be taken now.
    ///
    /// It is not while [`Limits::outstanding`] replies wait, nor while messages wait and the domain is above
    /// [`Limits::memory_bytes`].
    #[must_use]
    pub fn is_ready(&self, domid: DomId) -> bool {
        let Some(domain) = self.domains.get(&domid) else {
            return false;
        };
        let is_full =
            domain.memory_bytes() >= self.limits.memory_bytes && domain.outbox.bytes() > 0;
        domain.outbox.replies() < self.limits.outstanding && (is_privileged(domid) || !is_full)
    }

    /// Tells what a domain has, or `None` if it is not connected.
    #[must_use]
    pub fn usage(&self, domid: DomId) -> Option<Usage> {
        let domain = self.domains.get(&domid)?;
        Some(Usage {
            nodes: domain.nodes,
            watches: domain.watches.len(),
            transactions: domain.transactions.len(),
            outstanding: domain.outbox.replies(),
            memory_bytes: domain.memory_bytes(),
        })
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Domain {
    fn new(domid: DomId) -> Self {
        Self {
            home: path::home(u32::from(domid.0)),
            next_transaction: 1,
            ..Self::default()
        }
    }

    /// All that counts against the memory limit.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.saturating_add(self.outbox.bytes())
    }

    /// Drops all watches and transactions.
    pub(crate) fn drop_requests(&mut self) {
        let watches = self.watches.drain(..).map(|watch| watch.bytes());
        let freed = watches.fold(0_usize, usize::saturating_add);
        let transactions = std::mem::take(&mut self.transactions);
        let bytes = transactions.values().map(Transaction::bytes);
        let freed = bytes.fold(freed, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(freed);
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
