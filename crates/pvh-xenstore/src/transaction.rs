//! A transaction: its own view of the nodes that it has touched.

use std::{collections::HashMap, sync::Arc};

use crate::node::Node;

/// Cost in bytes of a touched node beside its path and the node itself.
const RECORD_BYTES: usize = 128;

/// A view of the tree that keeps changes until the commit.
///
/// The view takes a node from the tree when a request first touches it. The commit is refused if
/// any touched node has changed in the tree since.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// In the order in which the nodes were first touched.
    records: Vec<Record>,
    index: HashMap<Arc<[u8]>, usize>,
    /// A request found no room: the commit answers ENOMEM.
    pub(crate) is_doomed: bool,
    /// Cost of all records.
    bytes: usize,
}

/// A node that the transaction touched.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) path: Arc<[u8]>,
    /// The node in the tree when it was first touched.
    pub(crate) before: Option<Arc<Node>>,
    /// The node as the transaction sees it.
    pub(crate) now: Option<Arc<Node>>,
    pub(crate) is_modified: bool,
    /// Which watches the commit fires for this node, if any.
    pub(crate) fire: Option<Reach>,
}

/// Which watches a change fires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// Those on exactly this node: it was removed together with a node above.
    Exact,
    /// Those on this node and on nodes above.
    Upwards,
}

impl Transaction {
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn record(&self, path: &[u8]) -> Option<&Record> {
        self.records.get(*self.index.get(path)?)
    }

    /// Returns the cost of touching a node.
    pub(crate) fn touch_bytes(path: &[u8], node: Option<&Arc<Node>>) -> usize {
        path.len()
            .saturating_add(RECORD_BYTES)
            .saturating_add(node.map_or(0, |node| node.size_bytes()))
    }

    /// Takes a node into the view.
    pub(crate) fn touch(&mut self, path: &[u8], node: Option<Arc<Node>>) {
        let cost = Self::touch_bytes(path, node.as_ref());
        self.bytes = self.bytes.saturating_add(cost);
        let path: Arc<[u8]> = path.into();
        self.index.insert(Arc::clone(&path), self.records.len());
        self.records.push(Record {
            path,
            before: node.clone(),
            now: node,
            is_modified: false,
            fire: None,
        });
    }

    /// Replaces a node of the view.
    pub(crate) fn put(&mut self, path: &[u8], node: Option<Arc<Node>>) {
        let added = node.as_ref().map_or(0, |node| node.size_bytes());
        let Some(record) = self.record_mut(path) else {
            return;
        };
        let freed = record.held_bytes();
        record.now = node;
        record.is_modified = true;
        self.bytes = self.bytes.saturating_sub(freed).saturating_add(added);
    }

    /// Returns the cost of the view's own version of a node.
    pub(crate) fn held_bytes(&self, path: &[u8]) -> usize {
        self.record(path).map_or(0, Record::held_bytes)
    }

    /// Makes the commit fire watches for this node. The wider reach wins if it is called twice.
    pub(crate) fn fire(&mut self, path: &[u8], reach: Reach) {
        if let Some(record) = self.record_mut(path)
            && record.fire != Some(Reach::Upwards)
        {
            record.fire = Some(reach);
        }
    }

    fn record_mut(&mut self, path: &[u8]) -> Option<&mut Record> {
        self.records.get_mut(*self.index.get(path)?)
    }
}

impl Record {
    fn held_bytes(&self) -> usize {
        let own = self.now.as_ref().filter(|_| self.is_modified);
        own.map_or(0, |node| node.size_bytes())
    }
}
