//! Changes of the store, as data.

use pvh_xenstore::{Host, Permission, StoreError};

/// One change of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the embedder carries out every kind"
)]
pub enum Change {
    /// Write a node's value.
    Write {
        /// The absolute path.
        path: String,
        /// The value.
        value: String,
    },
    /// Set a node's permissions.
    Permit {
        /// The absolute path.
        path: String,
        /// The permissions; the first entry names the owner.
        permissions: Vec<Permission>,
    },
    /// Remove a node and all nodes below.
    Remove {
        /// The absolute path.
        path: String,
    },
}

impl Change {
    pub(crate) fn write(path: String, value: impl Into<String>) -> Self {
        Self::Write {
            path,
            value: value.into(),
        }
    }
}

/// Carries out changes on a connection of the host, best inside a transaction.
///
/// # Errors
///
/// The first error of the store. A node that is removed already is no error.
pub fn apply<'a>(
    changes: impl IntoIterator<Item = &'a Change>,
    host: &mut Host<'_>,
) -> Result<(), StoreError> {
    for change in changes {
        match change {
            Change::Write { path, value } => host.write(path, value.as_bytes())?,
            Change::Permit { path, permissions } => host.set_permissions(path, permissions)?,
            Change::Remove { path } if host.read(path).is_ok() => host.remove(path)?,
            Change::Remove { .. } => {}
        }
    }
    Ok(())
}
