//! One node of the tree.

use crate::{
    permission::Permission,
    text::{first_string, strings},
};

/// Size in bytes of a node without permissions, value and children, as in xenstored's database.
const RECORD_BYTES: usize = 24;

/// Size in bytes of one permission entry.
const PERMISSION_BYTES: usize = 8;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The number of the change that made this state of the node; no two states have the same.
    pub(crate) generation: u64,
    /// Never empty. The first entry names the owner.
    pub(crate) permissions: Vec<Permission>,
    pub(crate) value: Vec<u8>,
    /// The names of the children in the order in which they were made, each with a NUL.
    children: Vec<u8>,
}

impl Node {
    /// Makes a node without value and children.
    pub(crate) fn new(permissions: Vec<Permission>) -> Self {
        Self {
            generation: 0,
            permissions,
            value: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Returns the same node with another generation.
    pub(crate) fn at_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Returns the number of the domain that owns the node.
    pub(crate) fn owner(&self) -> u32 {
        self.permissions.first().map_or(0, |entry| entry.domid())
    }

    /// Returns the size that counts against [`crate::Limits::node_bytes`].
    pub(crate) fn size_bytes(&self) -> usize {
        let permissions = self.permissions.len().saturating_mul(PERMISSION_BYTES);
        RECORD_BYTES
            .saturating_add(permissions)
            .saturating_add(self.value.len())
            .saturating_add(self.children.len())
    }

    /// Returns the names of the children, each with a NUL.
    pub(crate) fn children(&self) -> &[u8] {
        &self.children
    }

    pub(crate) fn child_names(&self) -> impl Iterator<Item = &[u8]> {
        strings(&self.children)
    }

    pub(crate) fn add_child(&mut self, name: &[u8]) {
        self.children.extend_from_slice(name);
        self.children.push(0);
    }

    pub(crate) fn remove_child(&mut self, name: &[u8]) {
        let mut kept = Vec::with_capacity(self.children.len());
        let mut rest = self.children.as_slice();
        while let Some((child, after)) = first_string(rest) {
            if child != name {
                kept.extend_from_slice(child);
                kept.push(0);
            }
            rest = after;
        }
        self.children = kept;
    }
}
