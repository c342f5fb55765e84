//! A client of the store, and who asks for a request.

use std::collections::BTreeMap;

use pvh_abi::DomId;

use crate::{outbox::Outbox, path, transaction::Transaction, watch::Watch};

/// One client.
#[derive(Debug, Default)]
pub(crate) struct Client {
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

pub(crate) const TOOLSTACK: Caller = Caller {
    domid: DomId(0),
    transaction: None,
};

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
        let watches = self.watches.drain(..).map(|watch| watch.bytes());
        let freed = watches.fold(0_usize, usize::saturating_add);
        let transactions = std::mem::take(&mut self.transactions);
        let bytes = transactions.values().map(Transaction::bytes);
        let freed = bytes.fold(freed, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(freed);
    }
}
