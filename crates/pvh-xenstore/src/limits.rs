/// What one unprivileged domain may have at once; the defaults are those of Xen 4.17's C xenstored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Nodes it owns; one more is ENOSPC. 1000.
    pub nodes: usize,
    /// Watches; refused with E2BIG once there are *more* than this, so one more than this fits. 128.
    pub watches: usize,
    /// Transactions; refused with ENOSPC once there are *more* than this. 10.
    pub transactions: usize,
    /// Nodes that one transaction may touch; one more is ENOSPC and dooms the transaction. 1024.
    pub transaction_nodes: usize,
    /// Permission entries of a node; more are ENOSPC. 5.
    pub permissions: usize,
    /// Size of a node, which must stay below it: 24, 8 a permission entry, its value, and its children's
    /// names with a NUL each. ENOSPC. 2048.
    pub node_bytes: usize,
    /// Replies that wait for being fetched; no request is taken while there are so many. 20.
    pub outstanding: usize,
    /// Bytes kept for it: nodes it owns, watches, transactions, waiting replies and events. Above it a
    /// request that needs more gets ENOMEM and an event is dropped. 2.5 MiB.
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

/// What a domain has now, against its [`Limits`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Nodes it owns.
    pub nodes: usize,
    /// Watches it set.
    pub watches: usize,
    /// Transactions it has open.
    pub transactions: usize,
    /// Replies that wait for it.
    pub outstanding: usize,
    /// Bytes counted against [`Limits::memory_bytes`].
    pub memory_bytes: usize,
}
