//! What the toolstack asks by method: the same rules, without messages.

use crate::{
    Permission,
    client::{ClientId, TOOLSTACK},
    store::{Store, StoreError},
    transaction::Reach,
};
use pvh_abi::{DomId, Errno};

impl Store {
    /// Writes a node's value as the toolstack, makes what is missing above it, and fires watches.
    ///
    /// # Errors
    ///
    /// EINVAL if the path is not a valid absolute one.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        Ok(self.set_value(TOOLSTACK, path.as_bytes(), value)?)
    }

    /// Returns a node's value, whoever may read it; `None` if there is no such node.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        let node = self.tree.get(path.as_bytes())?;
        Some(&node.value)
    }

    /// Returns the names of a node's children, in the order they were made.
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

    /// Removes a node and all below as the toolstack, and fires watches.
    ///
    /// # Errors
    ///
    /// EINVAL for the root or an invalid path, ENOENT if not even the node above exists.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        Ok(self.remove_path(TOOLSTACK, path.as_bytes())?)
    }

    /// Gives a node permissions as the toolstack, the first entry naming its owner.
    ///
    /// # Errors
    ///
    /// EINVAL without an entry or for an invalid path, ENOENT if the node or the owner does not exist.
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
