//! When the store may refuse a change for want of room: the limits of Xen 4.17's xenstored.
//!
//! The model does not count permission entries, of which a node has one or two here. So it takes
//! two, and a refusal within 8 bytes of a limit passes.

use super::{Client, model::Change};

/// A node's record and two permission entries.
const NODE_BYTES: usize = 24 + 2 * 8;
/// More than a new node costs beside its value: its path, its record and its name in the node above.
const NEW_NODE_BYTES: usize = 100;
/// More than a watch costs.
pub(super) const WATCH_BYTES: usize = 200;

impl Client {
    /// Tells whether a change exceeds a limit, so that this error is the right answer.
    pub(super) fn lacks_room(&self, error: &str, tx: u32, change: &Change) -> bool {
        // Others have changed what the transaction has not seen yet: the model knows neither.
        if tx != 0 && (self.model.is_behind() || !self.model.knows(tx)) {
            return true;
        }
        if error == "ENOMEM" {
            return tx != 0 || self.exceeds_memory(change);
        }
        self.is_too_large(tx, change)
            || self.are_too_many(tx, change)
            || (tx != 0 && self.model.touched() >= self.store.limits().transaction_nodes)
    }

    /// One of the nodes that the change writes would not stay below the limit of a node.
    fn is_too_large(&self, tx: u32, change: &Change) -> bool {
        let limit = self.store.limits().node_bytes;
        let children = |path: &str| self.model.children(tx, path).map_or(0, |all| all.len());
        let value = |path: &str| self.model.value(tx, path).map_or(0, |value| value.len());
        let (path, own) = match change {
            Change::Write(path, value) => (path, value.len()),
            Change::Make(path) | Change::Share(path, _) => (path, value(path)),
            Change::Remove(_) => return false,
        };
        if NODE_BYTES + own + children(path) >= limit {
            return true;
        }
        // The node above the new ones gets one more name, of a letter and a NUL.
        let above = self.nearest(tx, path);
        above.is_some_and(|above| NODE_BYTES + value(&above) + children(&above) + 2 >= limit)
    }

    /// The guest would own more nodes than the limit.
    fn are_too_many(&self, tx: u32, change: &Change) -> bool {
        let (new, limit) = (self.new_nodes(tx, change), self.store.limits().nodes);
        match (new, tx) {
            (0, _) => false,
            (new, 0) => self.before.nodes + new > limit,
            _ => self.before.nodes >= limit,
        }
    }

    fn exceeds_memory(&self, change: &Change) -> bool {
        let value = match change {
            Change::Write(_, value) => value.len(),
            _ => 0,
        };
        let grows = value + NEW_NODE_BYTES * (self.new_nodes(0, change) + 1);
        self.before.memory_bytes + grows > self.store.limits().memory_bytes
    }

    /// The nodes that the change makes.
    fn new_nodes(&self, tx: u32, change: &Change) -> usize {
        let (Change::Write(path, _) | Change::Make(path)) = change else {
            return 0;
        };
        let ends = path.match_indices('/').map(|(at, _)| at);
        let all = ends.chain([path.len()]);
        all.filter(|&end| !self.model.has(tx, &path[..end])).count()
    }

    /// The nearest node above one that is not there; `None` if it is there.
    fn nearest(&self, tx: u32, path: &str) -> Option<String> {
        if self.model.has(tx, path) {
            return None;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).rev();
        let mut above = ends.map(|end| &path[..end]);
        above
            .find(|above| self.model.has(tx, above))
            .map(str::to_owned)
    }
}
