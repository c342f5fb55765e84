//! Nodes as a caller sees them: in its transaction, or in the tree itself.

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
    /// Looks a node up, whatever its permissions; in a transaction, touches it.
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

    /// Returns a node with which the caller may do what it `needs`.
    ///
    /// Whoever may not do so much above the node is told EACCES, and so learns nothing of it.
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

    /// The nearest node above that exists, and the paths between that do not, deepest first.
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

    /// Makes a node that does not exist, and what is missing above it.
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

    /// Removes a node and all below, children first, and fires for each.
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
        // Only a transaction can lack room: its view has the parent twice from here on.
        let parent = [(above, parent)];
        self.or_doomed(by, |store| store.check_memory(by, &parent))?;
        for (path, parent) in parent {
            self.put(by, path, Some(parent));
        }
        Ok(())
    }

    /// The paths of a node and all below, children first.
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

    /// Writes nodes if all of them are within the limits, else none.
    fn put_all(&mut self, by: Caller, nodes: Vec<(&[u8], Node)>) -> Result<(), Errno> {
        self.or_doomed(by, |store| store.check_sizes(by, &nodes))?;
        for (path, node) in nodes {
            self.put(by, path, Some(node));
        }
        Ok(())
    }

    /// Checks something; a transaction in which it fails cannot be committed.
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

    /// Refuses nodes that are too large, or more than the caller has room for.
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

    /// Refuses nodes that are more than the caller has room for.
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

    /// Refuses new nodes to a caller that owns too many.
    fn check_node_count(&mut self, by: Caller, new: usize) -> Result<(), Errno> {
        let owned = self.client(by).map_or(0, |client| client.nodes);
        // In a transaction the count is that of the tree until the commit, which looks again.
        let last = match by.transaction {
            Some(_) => owned,
            None => owned.saturating_add(new).saturating_sub(1),
        };
        if !by.is_privileged() && last >= self.limits.nodes {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Writes or removes a node where the caller sees it. In a transaction it was touched before.
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

    /// Writes a node of the tree and counts it for its owner.
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

    /// Takes a node out of the tree and off its owner's account.
    pub(crate) fn take(&mut self, path: &[u8]) {
        if let Some(node) = self.tree.remove(path)
            && let Some(owner) = self.owner(&node)
        {
            owner.nodes = owner.nodes.saturating_sub(1);
            owner.bytes = owner.bytes.saturating_sub(node_bytes(path, &node));
        }
    }

    /// The caller's transaction.
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

    /// What a node of the tree counts as for a domain.
    fn owned_bytes(&self, domid: DomId, path: &[u8]) -> usize {
        let node = self.tree.get(path);
        node.map_or(0, |node| owned_bytes(domid, path, node))
    }
}

/// What a node counts as for a domain: nothing if another one owns it.
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
