use crate::{
    permission::Permission,
    text::{first_string, strings},
};

/// What a node's record costs beside its permissions, value and children, as in Xen's data base.
const RECORD_BYTES: usize = 24;

/// What one permission entry costs.
const PERMISSION_BYTES: usize = 8;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Grows with each change of the store: two equal ones are the same state of the node.
    pub(crate) generation: u64,
    /// Never empty: the first entry names the owner.
    pub(crate) permissions: Vec<Permission>,
    pub(crate) value: Vec<u8>,
    /// The children's names in the order they were made, each with a NUL.
    children: Vec<u8>,
}

impl Node {
    /// A node without value and children.
    pub(crate) fn new(permissions: Vec<Permission>) -> Self {
        Self {
            generation: 0,
            permissions,
            value: Vec::new(),
            children: Vec::new(),
        }
    }

    /// The same node at another generation.
    pub(crate) fn at_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// The number of the domain that owns it.
    pub(crate) fn owner(&self) -> u32 {
        self.permissions.first().map_or(0, |entry| entry.domid())
    }

    /// What it counts as against the size limit.
    pub(crate) fn size_bytes(&self) -> usize {
        let permissions = self.permissions.len().saturating_mul(PERMISSION_BYTES);
        RECORD_BYTES
            .saturating_add(permissions)
            .saturating_add(self.value.len())
            .saturating_add(self.children.len())
    }

    /// The children's names, each with a NUL.
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
