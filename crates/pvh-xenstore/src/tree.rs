//! Reads and changes nodes where the caller sees them: in its transaction, or in the tree itself.

use std::sync::Arc;

use pvh_abi::{DomId, Errno};

use crate::{
    client::{Caller, Client, ClientId},
    node::Node,
    path, permission,
    store::Store,
    transaction::{Reach, Transaction},
};

impl Store {
    /// Returns a node without a look at its permissions. In a transaction this touches the node.
    pub(crate) fn look(&mut self, by: Caller, path: &[u8]) -> Result<Option<Arc<Node>>, Errno> {
        let node = self.tree.get(path);
        let Some(id) = by.transaction else {
            return Ok(node.cloned());
        };
        let client = self.clients.get_mut(&by.client).ok_or(Errno::ENOENT)?;
        let memory = client.memory_bytes();
        let view = client.transactions.get_mut(&id).ok_or(Errno::ENOENT)?;
        if let Some(record) = view.record(path) {
            return Ok(record.now.clone());
        }
        let cost = Transaction::touch_bytes(path, node);
        if !by.is_privileged() {
            let refusal = if view.records().len() >= self.limits.transaction_nodes {
                Some(Errno::ENOSPC)
            } else {
                (memory.saturating_add(cost) > self.limits.memory_bytes).then_some(Errno::ENOMEM)
            };
            if let Some(errno) = refusal {
                view.is_doomed = true;
                return Err(errno);
            }
        }
        view.touch(path, node.cloned());
        client.bytes = client.bytes.saturating_add(cost);
        Ok(node.cloned())
    }

    /// Returns a node on which the caller has the rights that it `needs`.
    ///
    /// A caller without these rights on the node above gets EACCES, so that it does not learn
    /// whether the node exists.
    pub(crate) fn node(&mut self, by: Caller, path: &[u8], needs: u8) -> Result<Arc<Node>, Errno> {
        if !path::is_valid(path) {
            return Err(Errno::EINVAL);
        }
        let errno = match self.look(by, path)? {
            Some(node) if permission::allowed(&node.permissions, by.domid()) & needs == needs => {
                return Ok(node);
            }
            Some(_) => Errno::EACCES,
            None => Errno::ENOENT,
        };
        let (_, above) = self.ancestor(by, path)?;
        let allowed = permission::allowed(&above.permissions, by.domid());
        Err(if allowed & needs == 0 {
            Errno::EACCES
        } else {
            errno
        })
    }

    /// Returns the nearest existing node above, and the missing paths in between, deepest first.
    pub(crate) fn ancestor<'a>(
        &mut self,
        by: Caller,
        path: &'a [u8],
    ) -> Result<(Vec<&'a [u8]>, Arc<Node>), Errno> {
        let mut missing = Vec::new();
        let mut at = path::parent(path);
        loop {
            if let Some(node) = self.look(by, at)? {
                return Ok((missing, node));
            }
            if at == b"/" {
                return Err(Errno::EIO);
            }
            missing.push(at);
            at = path::parent(at);
        }
    }

    /// Makes a node that does not exist, and the missing nodes above it.
    pub(crate) fn create(&mut self, by: Caller, path: &[u8], value: &[u8]) -> Result<(), Errno> {
        let (above, ancestor) = self.ancestor(by, path)?;
        let paths: Vec<&[u8]> = [path].into_iter().chain(above).collect();
        let mut permissions = ancestor.permissions.clone();
        if !by.is_privileged()
            && let Some(owner) = permissions.first_mut()
        {
            *owner = owner.given_to(by.domid());
        }
        let mut nodes = Vec::with_capacity(paths.len());
        let mut below: Option<&[u8]> = None;
        for &path in &paths {
            let mut node = Node::new(permissions.clone());
            match below {
                None => node.value = value.to_vec(),
                Some(below) => node.add_child(path::base(below)),
            }
            below = Some(path);
            nodes.push((path, node));
        }
        let top = below.unwrap_or(path);
        let mut parent = Node::clone(&ancestor);
        parent.add_child(path::base(top));
        nodes.push((path::parent(top), parent));
        self.check_node_count(by, paths.len())?;
        self.put_all(by, nodes)
    }

    /// Replaces a node that exists.
    pub(crate) fn replace(&mut self, by: Caller, path: &[u8], node: Node) -> Result<(), Errno> {
        self.put_all(by, vec![(path, node)])
    }

    /// Removes a node and all nodes below, children first, and fires watches for each.
    pub(crate) fn remove_tree(&mut self, by: Caller, path: &[u8]) -> Result<(), Errno> {
        let above = path::parent(path);
        self.look(by, above)?.ok_or(Errno::EINVAL)?;
        for gone in self.walk(by, path)? {
            let Some(node) = self.look(by, &gone)? else {
                continue;
            };
            self.put(by, &gone, None);
            let reach = if gone == path {
                Reach::Upwards
            } else {
                Reach::Exact
            };
            self.fire(by, &gone, (Some(&node), None), reach);
        }
        let parent = self.look(by, above)?.ok_or(Errno::EIO)?;
        let mut parent = Node::clone(&parent);
        parent.remove_child(path::base(path));
        // Only a transaction can lack room: its view holds two versions of the parent from here on.
        let parent = [(above, parent)];
        self.or_doomed(by, |store| store.check_memory(by, &parent))?;
        for (path, parent) in parent {
            self.put(by, path, Some(parent));
        }
        Ok(())
    }

    /// Returns the paths of a node and all nodes below, children first.
    fn walk(&mut self, by: Caller, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut found = Vec::new();
        let mut left = vec![(path.to_vec(), false)];
        while let Some((path, is_done)) = left.pop() {
            if is_done {
                found.push(path);
                continue;
            }
            let Some(node) = self.look(by, &path)? else {
                continue;
            };
            let names = node.child_names().map(|name| path::child(&path, name));
            let mut children: Vec<_> = names.map(|child| (child, false)).collect();
            children.reverse();
            left.push((path, true));
            left.append(&mut children);
        }
        Ok(found)
    }

    /// Writes all nodes, or none if one exceeds a limit.
    fn put_all(&mut self, by: Caller, nodes: Vec<(&[u8], Node)>) -> Result<(), Errno> {
        self.or_doomed(by, |store| store.check_sizes(by, &nodes))?;
        for (path, node) in nodes {
            self.put(by, path, Some(node));
        }
        Ok(())
    }

    /// Runs a check. A transaction in which the check fails cannot be committed.
    fn or_doomed(
        &mut self,
        by: Caller,
        check: impl FnOnce(&mut Self) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let checked = check(self);
        if checked.is_err()
            && let Some(view) = self.view(by)
        {
            view.is_doomed = true;
        }
        checked
    }

    /// Refuses nodes that are too large, or for which the caller has no room.
    fn check_sizes(&mut self, by: Caller, nodes: &[(&[u8], Node)]) -> Result<(), Errno> {
        if by.is_privileged() {
            return Ok(());
        }
        let limit = self.limits.node_bytes;
        if nodes.iter().any(|(_, node)| node.size_bytes() >= limit) {
            return Err(Errno::ENOSPC);
        }
        self.check_memory(by, nodes)
    }

    /// Refuses nodes for which the caller has no room.
    fn check_memory(&mut self, by: Caller, nodes: &[(&[u8], Node)]) -> Result<(), Errno> {
        if by.is_privileged() {
            return Ok(());
        }
        let mut memory = self.client(by).map_or(0, |client| client.memory_bytes());
        let mut grows = false;
        for (path, node) in nodes {
            let (held, cost) = match self.view(by) {
                Some(view) => (view.held_bytes(path), node.size_bytes()),
                None => (
                    self.owned_bytes(by.domid(), path),
                    owned_bytes(by.domid(), path, node),
                ),
            };
            grows |= cost > held;
            memory = memory.saturating_sub(held).saturating_add(cost);
        }
        if grows && memory > self.limits.memory_bytes {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Refuses new nodes to a caller that owns too many nodes.
    fn check_node_count(&mut self, by: Caller, new: usize) -> Result<(), Errno> {
        let owned = self.client(by).map_or(0, |client| client.nodes);
        // A transaction compares the nodes of the tree; its commit counts again.
        let last = match by.transaction {
            Some(_) => owned,
            None => owned.saturating_add(new).saturating_sub(1),
        };
        if !by.is_privileged() && last >= self.limits.nodes {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Writes or removes a node where the caller sees it. In a transaction the node is touched
    /// already.
    fn put(&mut self, by: Caller, path: &[u8], node: Option<Node>) {
        if by.transaction.is_none() {
            match node {
                Some(node) => self.insert(path, node),
                None => self.take(path),
            }
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let node = node.map(|node| Arc::new(node.at_generation(generation)));
        let Some(client) = self.clients.get_mut(&by.client) else {
            return;
        };
        let id = by.transaction.unwrap_or_default();
        if let Some(view) = client.transactions.get_mut(&id) {
            let held = view.bytes();
            view.put(path, node);
            client.bytes = client
                .bytes
                .saturating_sub(held)
                .saturating_add(view.bytes());
        }
    }

    /// Writes a node of the tree, and charges its owner for it.
    pub(crate) fn insert(&mut self, path: &[u8], node: Node) {
        self.take(path);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let node = node.at_generation(generation);
        if let Some(owner) = self.owner(&node) {
            owner.nodes = owner.nodes.saturating_add(1);
            owner.bytes = owner.bytes.saturating_add(node_bytes(path, &node));
        }
        self.tree.insert(path.into(), Arc::new(node));
    }

    /// Removes a node from the tree, and no longer charges its owner for it.
    pub(crate) fn take(&mut self, path: &[u8]) {
        if let Some(node) = self.tree.remove(path)
            && let Some(owner) = self.owner(&node)
        {
            owner.nodes = owner.nodes.saturating_sub(1);
            owner.bytes = owner.bytes.saturating_sub(node_bytes(path, &node));
        }
    }

    /// Returns the caller's transaction.
    fn view(&mut self, by: Caller) -> Option<&mut Transaction> {
        let id = by.transaction?;
        self.client(by)?.transactions.get_mut(&id)
    }

    pub(crate) fn client(&mut self, by: Caller) -> Option<&mut Client> {
        self.clients.get_mut(&by.client)
    }

    fn owner(&mut self, node: &Node) -> Option<&mut Client> {
        let owner = u16::try_from(node.owner()).ok()?;
        self.clients.get_mut(&ClientId::Domain(DomId(owner)))
    }

    /// Returns what a domain is charged for a node of the tree.
    fn owned_bytes(&self, domid: DomId, path: &[u8]) -> usize {
        let node = self.tree.get(path);
        node.map_or(0, |node| owned_bytes(domid, path, node))
    }
}

/// Returns what a domain is charged for a node: nothing if another domain owns it.
fn owned_bytes(domid: DomId, path: &[u8], node: &Node) -> usize {
    if node.owner() == u32::from(domid.0) {
        node_bytes(path, node)
    } else {
        0
    }
}

fn node_bytes(path: &[u8], node: &Node) -> usize {
    path.len().saturating_add(node.size_bytes())
}
