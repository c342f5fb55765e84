//! Who is told of a change.

use std::sync::Arc;

use crate::{
    client::Caller,
    node::Node,
    path,
    permission::{self, Permission, READ, is_privileged},
    store::Store,
    transaction::Reach,
};

impl Store {
    /// Tells of a change at `path`, or in a transaction notes that its commit has to.
    ///
    /// Told is who may read the node or the one above it; `known` is the node, which may be gone by now, and
    /// the permissions it had before.
    pub(crate) fn fire(
        &mut self,
        by: Caller,
        path: &[u8],
        known: (Option<&Arc<Node>>, Option<&[Permission]>),
        reach: Reach,
    ) {
        if let Some(id) = by.transaction {
            let client = self.clients.get_mut(&by.domid);
            if let Some(view) = client.and_then(|client| client.transactions.get_mut(&id)) {
                view.fire(path, reach);
            }
            return;
        }
        let node = known.0.or_else(|| self.tree.get(path));
        let above = self.tree.get(path::parent(path));
        let levels = [
            known.1,
            node.map(|node| node.permissions.as_slice()),
            node.and(above).map(|node| node.permissions.as_slice()),
        ];
        for (&domid, client) in &mut self.clients {
            let may_read = |entries: &[Permission]| permission::allowed(entries, domid) & READ != 0;
            if !levels.into_iter().flatten().any(may_read) {
                continue;
            }
            let room = room(self.limits.memory_bytes, client.bytes, is_privileged(domid));
            let watches = client.watches.iter();
            for watch in watches.filter(|watch| watch.concerns(path, reach)) {
                client.outbox.event(watch.told(path), &watch.token, room);
            }
        }
    }

    /// Tells of an event the server makes up.
    pub(crate) fn fire_special(&mut self, name: &[u8]) {
        let Some(permissions) = self.special.get(name) else {
            return;
        };
        for (&domid, client) in &mut self.clients {
            if permission::allowed(permissions, domid) & READ == 0 {
                continue;
            }
            let room = room(self.limits.memory_bytes, client.bytes, is_privileged(domid));
            for watch in client.watches.iter().filter(|watch| watch.path == name) {
                client.outbox.event(name, &watch.token, room);
            }
        }
    }

    /// Tells the caller of the watch it has just set.
    pub(crate) fn fire_first(&mut self, by: Caller) {
        let limit = self.limits.memory_bytes;
        let Some(client) = self.clients.get_mut(&by.domid) else {
            return;
        };
        let room = room(limit, client.bytes, is_privileged(by.domid));
        if let Some(watch) = client.watches.last() {
            let path = watch.told(&watch.path);
            client.outbox.event(path, &watch.token, room);
        }
    }
}

/// What a domain's messages may cost. The toolstack's nodes do not count, but what waits for it is bounded
/// as well: guests make it grow.
fn room(limit_bytes: usize, held_bytes: usize, is_privileged: bool) -> usize {
    if is_privileged {
        limit_bytes
    } else {
        limit_bytes.saturating_sub(held_bytes)
    }
}
