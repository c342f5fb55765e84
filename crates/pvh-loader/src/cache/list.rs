//! Lists and removes the entries of a cache, for a person.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Cache, file,
    folder::is_ours,
    name::{self, Kind},
};

/// An unpacked kernel in a cache.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheEntry {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// When a start used it last, as far as the file system says.
    pub last_used: Option<SystemTime>,
}

impl Cache {
    /// Returns the folder of the entries.
    #[must_use]
    pub fn entries_dir(&self) -> &Path {
        &self.entries
    }

    /// Returns all entries, the one that was used last first.
    ///
    /// # Errors
    ///
    /// The host's, if the folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<CacheEntry>> {
        let mut entries = self.files(Kind::Entry)?;
        entries.sort_by_key(|entry| core::cmp::Reverse(entry.last_used));
        Ok(entries)
    }

    /// Removes all entries, and what processes that have ended left behind; returns the entries
    /// that it removed. Files of other names and of other users stay. A guest that runs from an
    /// entry keeps it.
    ///
    /// # Errors
    ///
    /// The host's, at the first file that cannot be removed.
    pub fn clear(&self) -> io::Result<Vec<CacheEntry>> {
        for unfinished in self.files(Kind::Temporary)? {
            file::remove_if_abandoned(&unfinished.path);
        }
        let entries = self.entries()?;
        for entry in &entries {
            match fs::remove_file(&entry.path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        Ok(entries)
    }

    /// Returns this user's files of one kind.
    fn files(&self, wanted: Kind) -> io::Result<Vec<CacheEntry>> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.entries)? {
            let file = file?;
            let kind = file.file_name().to_str().and_then(name::kind);
            // Another process may have removed it meanwhile.
            let Ok(found) = fs::symlink_metadata(file.path()) else {
                continue;
            };
            if kind == Some(wanted) && found.is_file() && is_ours(&found) {
                files.push(CacheEntry {
                    path: file.path(),
                    len_bytes: found.len(),
                    last_used: found.accessed().ok(),
                });
            }
        }
        Ok(files)
    }
}
