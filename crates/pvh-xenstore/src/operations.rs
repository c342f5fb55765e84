//! The operations behind both the messages and the host's methods.

use pvh_abi::{DomId, Errno};

use crate::{
    client::{Caller, ClientId},
    node::Node,
    path,
    permission::{self, OWNER, Permission, WRITE},
    store::Store,
    transaction::Reach,
    watch::Watch,
};

impl Store {
    /// Sets a node's value, and makes the node if it does not exist.
    pub(crate) fn set_value(&mut self, by: Caller, path: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self.node(by, path, WRITE) {
            Ok(node) => {
                let mut node = Node::clone(&node);
                node.value = value.to_vec();
                self.replace(by, path, node)?;
            }
            Err(Errno::ENOENT) => self.create(by, path, value)?,
            Err(errno) => return Err(errno),
        }
        self.fire(by, path, (None, None), Reach::Upwards);
        Ok(())
    }

    /// Makes a node with an empty value, unless the node exists.
    pub(crate) fn make(&mut self, by: Caller, path: &[u8]) -> Result<(), Errno> {
        match self.node(by, path, WRITE) {
            Ok(_) => Ok(()),
            Err(Errno::ENOENT) => {
                self.create(by, path, b"")?;
                self.fire(by, path, (None, None), Reach::Upwards);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    /// Removes a node and all nodes below. A missing node is no error if the node above exists.
    pub(crate) fn remove_path(&mut self, by: Caller, path: &[u8]) -> Result<(), Errno> {
        match self.node(by, path, WRITE) {
            Ok(_) if path == b"/" => Err(Errno::EINVAL),
            Ok(_) => self.remove_tree(by, path),
            Err(Errno::ENOENT) => {
                let above = self.look(by, path::parent(path))?;
                above.map(|_| ()).ok_or(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Sets the permissions of a node, or of a special path.
    pub(crate) fn set_entries(
        &mut self,
        by: Caller,
        raw: &[u8],
        mut entries: Vec<Permission>,
    ) -> Result<(), Errno> {
        for entry in &mut entries {
            if !self.is_known(entry.domid()) {
                entry.make_void();
            }
        }
        let owner = *entries.first().ok_or(Errno::EINVAL)?;
        if owner.is_void() {
            return Err(Errno::ENOENT);
        }
        if path::is_special(raw) {
            let special = self.special.get_mut(raw).ok_or(Errno::EINVAL)?;
            let needs = WRITE | OWNER;
            if permission::allowed(special, by.domid()) & needs != needs {
                return Err(Errno::EACCES);
            }
            *special = entries;
            return Ok(());
        }
        let path = self.absolute(by, raw);
        let before = self.node(by, &path, WRITE | OWNER)?;
        if !by.is_privileged() && owner.domid() != before.owner() {
            return Err(Errno::EPERM);
        }
        let mut node = Node::clone(&before);
        node.permissions = entries;
        self.replace(by, &path, node)?;
        self.fire(by, &path, (None, Some(&before.permissions)), Reach::Upwards);
        Ok(())
    }

    /// Sets a watch. The caller fires its first event with [`Store::fire_first`].
    pub(crate) fn add_watch(&mut self, by: Caller, raw: &[u8], token: &[u8]) -> Result<(), Errno> {
        let path = self.absolute(by, raw);
        let is_allowed = if path::is_special(&path) {
            path::is_short(&path)
        } else {
            path::is_valid(&path)
        };
        if !is_allowed {
            return Err(Errno::EINVAL);
        }
        let limits = self.limits;
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        if client.watches.iter().any(|watch| watch.is(&path, token)) {
            return Err(Errno::EEXIST);
        }
        let is_relative = !raw.starts_with(b"/") && !path::is_special(raw);
        let hidden = if is_relative { client.home.len() } else { 0 };
        let watch = Watch::new(path, token, hidden);
        if !by.is_privileged() {
            if client.watches.len() > limits.watches {
                return Err(Errno::E2BIG);
            }
            if client.memory_bytes().saturating_add(watch.bytes()) > limits.memory_bytes {
                return Err(Errno::ENOMEM);
            }
        }
        client.bytes = client.bytes.saturating_add(watch.bytes());
        client.watches.push(watch);
        Ok(())
    }

    /// Removes a watch.
    pub(crate) fn remove_watch(
        &mut self,
        by: Caller,
        raw: &[u8],
        token: &[u8],
    ) -> Result<(), Errno> {
        let path = self.absolute(by, raw);
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        let mut watches = client.watches.iter();
        let at = watches.position(|watch| watch.is(&path, token));
        let watch = client.watches.remove(at.ok_or(Errno::ENOENT)?);
        client.bytes = client.bytes.saturating_sub(watch.bytes());
        client.behind = client.behind.saturating_sub(usize::from(watch.is_behind));
        Ok(())
    }

    /// Makes a path absolute: a relative one begins at the caller's home.
    pub(crate) fn absolute(&self, by: Caller, raw: &[u8]) -> Vec<u8> {
        let home = self.clients.get(&by.client).map(|client| &client.home);
        path::canonical(home.map_or(b"/", Vec::as_slice), raw)
    }

    /// Whether a connected domain has this number.
    pub(crate) fn is_known(&self, domid: u32) -> bool {
        u16::try_from(domid).is_ok_and(|id| self.clients.contains_key(&ClientId::Domain(DomId(id))))
    }
}
