//! What the toolstack does without a connection: reads and writes with domain 0's rights.

use crate::{
    Permission,
    client::{ClientId, TOOLSTACK},
    store::{Store, StoreError},
    transaction::Reach,
};
use pvh_abi::{DomId, Errno};

impl Store {
    /// Writes a node's value as domain 0, makes missing nodes, and fires watches.
    ///
    /// # Errors
    ///
    /// EINVAL if the path is not absolute or not valid.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        Ok(self.set_value(TOOLSTACK, path.as_bytes(), value)?)
    }

    /// Returns a node's value, or `None` if there is no such node.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        let node = self.tree.get(path.as_bytes())?;
        Some(&node.value)
    }

    /// Returns the names of a node's children, in the order in which they were made.
    pub fn children(&self, path: &str) -> impl Iterator<Item = &[u8]> {
        let node = self.tree.get(path.as_bytes());
        node.into_iter().flat_map(|node| node.child_names())
    }

    /// Tells whether a domain has a watch that a change of a node would fire.
    #[must_use]
    pub fn is_watched(&self, domid: DomId, path: &str) -> bool {
        let client = self.clients.get(&ClientId::Domain(domid));
        let mut watches = client.into_iter().flat_map(|client| &client.watches);
        watches.any(|watch| watch.concerns(path.as_bytes(), Reach::Upwards))
    }

    /// Removes a node and all nodes below as domain 0, and fires watches.
    ///
    /// # Errors
    ///
    /// EINVAL for the root or an invalid path, ENOENT if neither the node nor the node above
    /// exists.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        Ok(self.remove_path(TOOLSTACK, path.as_bytes())?)
    }

    /// Sets a node's permissions as domain 0. The first entry names the owner.
    ///
    /// # Errors
    ///
    /// EINVAL without an entry or for an invalid path, ENOENT if the node does not exist or the
    /// owner is not connected.
    pub fn set_permissions(
        &mut self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        if !path.starts_with(['/', '@']) {
            return Err(Errno::EINVAL.into());
        }
        Ok(self.set_entries(TOOLSTACK, path.as_bytes(), permissions.to_vec())?)
    }
}
