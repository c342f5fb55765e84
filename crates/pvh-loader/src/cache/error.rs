//! Why a folder is not used as a cache.

use std::{io, path::PathBuf};

/// Why a folder is not used as a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder cannot be made or examined.
    #[error("the cache folder {} cannot be used", dir.display())]
    Host {
        /// The folder.
        dir: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The folder, or the sub-folder of the entries, is a link or a file of another kind.
    #[error("the cache folder {} cannot be used: {} is not a folder", dir.display(), path.display())]
    NotAFolder {
        /// The folder.
        dir: PathBuf,
        /// The link or file.
        path: PathBuf,
    },
    /// The folder, or the sub-folder of the entries, belongs to another user.
    #[error("the cache folder {} belongs to another user", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
    },
    /// Another user could put kernels into the folder, or into the sub-folder of the entries.
    #[error(
        "the cache folder {} is not this user's alone: chmod go-w {}",
        dir.display(),
        path.display()
    )]
    Writable {
        /// The folder.
        dir: PathBuf,
        /// The folder that others may write to.
        path: PathBuf,
    },
    /// Another user could replace the folder.
    #[error(
        "the cache folder {} is not safe: another user may write to {}",
        dir.display(),
        parent.display()
    )]
    UnsafeParent {
        /// The folder.
        dir: PathBuf,
        /// The parent that another user owns or may write to.
        parent: PathBuf,
    },
    /// The sub-folder of the entries has other files and no marker.
    #[error("the folder {} was not made by this cache: it has other files and no marker", dir.display())]
    NotMadeHere {
        /// The sub-folder.
        dir: PathBuf,
    },
    /// The unpacked kernel cannot be written to the folder.
    #[error("the unpacked kernel cannot be written to the cache folder {}", dir.display())]
    Unkept {
        /// The folder.
        dir: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}
