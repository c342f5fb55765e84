//! How a transaction starts, and how it is committed or dropped.

use std::collections::BTreeMap;

use pvh_abi::{DomId, Errno};

use crate::{
    client::{Caller, ClientId},
    node::Node,
    permission::is_privileged,
    store::Store,
    transaction::Transaction,
};

impl Store {
    /// Starts a transaction and returns its id, which is never 0.
    pub(crate) fn start_transaction(&mut self, by: Caller) -> Result<u32, Errno> {
        if by.transaction.is_some() {
            return Err(Errno::EBUSY);
        }
        let limit = self.limits.transactions;
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        if !by.is_privileged() && client.transactions.len() > limit {
            return Err(Errno::ENOSPC);
        }
        let mut id = client.next_transaction;
        while id == 0 || client.transactions.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        client.next_transaction = id.wrapping_add(1);
        client.transactions.insert(id, Transaction::default());
        Ok(id)
    }

    /// Ends a transaction. The transaction is gone whatever the answer is.
    pub(crate) fn end_transaction(&mut self, by: Caller, is_commit: bool) -> Result<(), Errno> {
        let id = by.transaction.ok_or(Errno::ENOENT)?;
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        let view = client.transactions.remove(&id).ok_or(Errno::ENOENT)?;
        client.bytes = client.bytes.saturating_sub(view.bytes());
        if !is_commit {
            return Ok(());
        }
        if view.is_doomed {
            return Err(Errno::ENOMEM);
        }
        self.check_owners(&view)?;
        self.check_conflicts(&view)?;
        self.apply(by, &view);
        Ok(())
    }

    /// Refuses a commit that adds nodes for a domain and brings it to its limit of nodes.
    fn check_owners(&self, view: &Transaction) -> Result<(), Errno> {
        let mut changes: BTreeMap<u32, i64> = BTreeMap::new();
        for record in view.records().iter().filter(|record| record.is_modified) {
            for (node, change) in [(&record.before, -1), (&record.now, 1)] {
                if let Some(node) = node {
                    let total = changes.entry(node.owner()).or_default();
                    *total = total.saturating_add(change);
                }
            }
        }
        for (owner, change) in changes {
            let domid = u16::try_from(owner).map_or(DomId(0), DomId);
            let owned = self
                .clients
                .get(&ClientId::Domain(domid))
                .map_or(0, |client| client.nodes);
            let new = usize::try_from(change).unwrap_or(0);
            if new > 0 && !is_privileged(domid) && owned.saturating_add(new) >= self.limits.nodes {
                return Err(Errno::ENOSPC);
            }
        }
        Ok(())
    }

    /// Refuses a commit if a node that the transaction touched has changed outside since.
    fn check_conflicts(&self, view: &Transaction) -> Result<(), Errno> {
        let is_same = view.records().iter().all(|record| {
            let now = self.tree.get(&*record.path).map(|node| node.generation);
            now == record.before.as_ref().map(|node| node.generation)
        });
        if is_same { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// Makes all changes. Then it fires watches for them, in the order in which the transaction
    /// first touched the nodes.
    fn apply(&mut self, by: Caller, view: &Transaction) {
        for record in view.records().iter().filter(|record| record.is_modified) {
            match &record.now {
                Some(node) => self.insert(&record.path, Node::clone(node)),
                None => self.take(&record.path),
            }
        }
        for record in view.records() {
            if let Some(reach) = record.fire {
                let before = record
                    .before
                    .as_ref()
                    .map(|node| node.permissions.as_slice());
                self.fire(by.outside(), &record.path, (None, before), reach);
            }
        }
    }
}
