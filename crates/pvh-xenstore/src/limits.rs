//! How much of the store a domain may use, and how much it uses.

/// What one domain may have at once. The defaults are those of Xen 4.17's C xenstored. No limit but
/// [`Limits::outstanding`], and [`Limits::memory_bytes`] for waiting events, holds for domain 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Nodes that it owns, 1000. The reply to one more is ENOSPC.
    pub nodes: usize,
    /// Watches, 128. The reply is E2BIG once it has *more* than this, so one more than this fits.
    pub watches: usize,
    /// Transactions, 10. The reply is ENOSPC once it has *more* than this.
    pub transactions: usize,
    /// Nodes that one transaction may touch, 1024. The reply to one more is ENOSPC, and the
    /// transaction cannot be committed any more.
    pub transaction_nodes: usize,
    /// Permission entries of a node, 5. The reply to more is ENOSPC.
    pub permissions: usize,
    /// Size of a node in bytes, 2048. A node must stay *below* it, or the reply is ENOSPC. A node
    /// counts 24, 8 for each permission entry, its value, and the names of its children with a NUL
    /// each.
    pub node_bytes: usize,
    /// Replies that wait to be taken, 20. The store takes no request while so many wait.
    pub outstanding: usize,
    /// Bytes that the store keeps for it, 2.5 MiB: the nodes that it owns, watches, transactions,
    /// waiting replies and events. Above it, the reply to a request that needs more is ENOMEM, and
    /// events are dropped. For each host connection it is the limit of waiting events;
    /// [`crate::Host::take_event`] says what happens to others.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1000,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            permissions: 5,
            node_bytes: 2048,
            outstanding: 20,
            memory_bytes: 2_621_440,
        }
    }
}

/// What a client has now; compare it with [`Limits`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Its watches.
    pub watches: usize,
    /// Its open transactions.
    pub transactions: usize,
    /// Replies that wait for it.
    pub outstanding: usize,
    /// Bytes counted against [`Limits::memory_bytes`].
    pub memory_bytes: usize,
}
