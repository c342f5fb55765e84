//! Which clients get a watch event for a change.

use std::sync::Arc;

use pvh_abi::DomId;

use crate::{
    client::{Caller, ClientId},
    node::Node,
    path,
    permission::{self, Permission, READ, is_privileged},
    store::Store,
    transaction::Reach,
};

impl Store {
    /// Queues events for a change of the node at `path`. In a transaction, it leaves that to the
    /// commit.
    ///
    /// A domain gets an event if it may read the node or the node above. `known` holds the node,
    /// which may be removed by now, and the permissions that it had before.
    pub(crate) fn fire(
        &mut self,
        by: Caller,
        path: &[u8],
        known: (Option<&Arc<Node>>, Option<&[Permission]>),
        reach: Reach,
    ) {
        if let Some(id) = by.transaction {
            let client = self.clients.get_mut(&by.client);
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
        for (&id, client) in &mut self.clients {
            let domid = id.domid();
            let may_read = |entries: &[Permission]| permission::allowed(entries, domid) & READ != 0;
            if is_privileged(domid) || levels.into_iter().flatten().any(may_read) {
                let room = room(self.limits.memory_bytes, client.bytes, domid);
                client.notify(path, room, |watch| watch.concerns(path, reach));
            }
        }
    }

    /// Queues events for a special path.
    pub(crate) fn fire_special(&mut self, name: &[u8]) {
        let Some(permissions) = self.special.get(name) else {
            return;
        };
        for (&id, client) in &mut self.clients {
            if permission::allowed(permissions, id.domid()) & READ != 0 {
                let room = room(self.limits.memory_bytes, client.bytes, id.domid());
                client.notify(name, room, |watch| watch.path == name);
            }
        }
    }

    /// Queues the first event of the watch that a client has just set.
    pub(crate) fn fire_first(&mut self, id: ClientId) {
        let limit = self.limits.memory_bytes;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let room = room(limit, client.bytes, id.domid());
        if let Some(watch) = client.watches.last() {
            let (path, token) = (watch.path.clone(), watch.token.clone());
            client.notify(&path, room, |watch| watch.is(&path, &token));
        }
    }
}

/// Returns how many bytes of messages may wait for a client, and whether events that find no room
/// are reported later.
///
/// No limit holds for the nodes of domain 0. Its waiting messages are bounded all the same, because
/// guests make them grow.
fn room(limit_bytes: usize, held_bytes: usize, domid: DomId) -> (usize, bool) {
    if is_privileged(domid) {
        (limit_bytes, true)
    } else {
        (limit_bytes.saturating_sub(held_bytes), false)
    }
}
