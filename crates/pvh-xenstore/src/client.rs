//! The clients of the store: who they are, and what the store keeps for each.

use std::{collections::BTreeMap, fmt};

use pvh_abi::DomId;

use crate::{
    outbox::Outbox, path, permission::is_privileged, transaction::Transaction, watch::Watch,
    wire::Message,
};

/// One client of the store. Each has its own watches, transactions and waiting messages.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a client is a domain or the host's"
)]
pub enum ClientId {
    /// A domain, connected by [`crate::Store::introduce`]. Domain 0 is connected from the start.
    Domain(DomId),
    /// A connection of the host, made by [`crate::Store::connect_host`]. It has domain 0's rights.
    Host(HostId),
}

/// A connection of the host: one for each back end, or for each client of a socket.
///
/// A number is not used again after the connection has ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostId(pub(crate) u64);

/// What the store keeps for one client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) home: Vec<u8>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) transactions: BTreeMap<u32, Transaction>,
    pub(crate) next_transaction: u32,
    pub(crate) outbox: Outbox,
    /// How many of its watches have [`Watch::is_behind`] set.
    pub(crate) behind: usize,
    /// Nodes it owns. Those of host connections are domain 0's.
    pub(crate) nodes: usize,
    /// The memory cost of its nodes, watches and transactions.
    pub(crate) bytes: usize,
}

/// Who makes a request, and in which transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) client: ClientId,
    pub(crate) transaction: Option<u32>,
}

pub(crate) const TOOLSTACK: Caller = Caller {
    client: ClientId::Domain(DomId(0)),
    transaction: None,
};

impl ClientId {
    /// Returns the domain whose rights the client has.
    #[must_use]
    pub const fn domid(self) -> DomId {
        match self {
            Self::Domain(domid) => domid,
            Self::Host(_) => DomId(0),
        }
    }
}

impl Caller {
    pub(crate) const fn domid(self) -> DomId {
        self.client.domid()
    }

    /// The same client without its transaction.
    pub(crate) const fn outside(self) -> Self {
        Self {
            transaction: None,
            ..self
        }
    }

    /// Whether permissions and limits do not hold for the caller.
    pub(crate) fn is_privileged(self) -> bool {
        is_privileged(self.domid())
    }
}

impl Client {
    pub(crate) fn new(domid: DomId) -> Self {
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
        self.behind = 0;
        let watches = self.watches.drain(..).map(|watch| watch.bytes());
        let freed = watches.fold(0_usize, usize::saturating_add);
        let transactions = std::mem::take(&mut self.transactions);
        let bytes = transactions.values().map(Transaction::bytes);
        let freed = bytes.fold(freed, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(freed);
    }

    /// Queues an event for each watch that `concerns` selects, while `room_bytes` are not used up.
    ///
    /// If `is_told_later`, a watch whose event finds no room is marked, and
    /// [`Client::next_message`] reports it later.
    pub(crate) fn notify(
        &mut self,
        path: &[u8],
        (room_bytes, is_told_later): (usize, bool),
        concerns: impl Fn(&Watch) -> bool,
    ) {
        let watches = self.watches.iter_mut();
        for watch in watches.filter(|watch| !watch.is_behind && concerns(watch)) {
            let told = watch.told(path);
            let is_queued = self.outbox.event(told, &watch.token, room_bytes);
            if !is_queued && is_told_later {
                watch.is_behind = true;
                self.behind = self.behind.saturating_add(1);
            }
        }
    }

    /// Takes the oldest message. After the last one, each watch that missed an event reports its
    /// own path.
    pub(crate) fn next_message(&mut self) -> Option<Message> {
        if let Some(message) = self.outbox.pop() {
            return Some(message);
        }
        if self.behind == 0 {
            return None;
        }
        let watch = self.watches.iter_mut().find(|watch| watch.is_behind)?;
        watch.is_behind = false;
        self.behind = self.behind.saturating_sub(1);
        self.outbox
            .event(watch.told(&watch.path), &watch.token, usize::MAX);
        self.outbox.pop()
    }
}

impl From<DomId> for ClientId {
    fn from(domid: DomId) -> Self {
        Self::Domain(domid)
    }
}

impl From<HostId> for ClientId {
    fn from(host: HostId) -> Self {
        Self::Host(host)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domid) => write!(f, "domain {}", domid.0),
            Self::Host(host) => write!(f, "host connection {}", host.0),
        }
    }
}
