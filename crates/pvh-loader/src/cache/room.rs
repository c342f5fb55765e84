//! Keeps the folder within its limit.

use std::{fs, path::Path, time::SystemTime};

use super::{
    file,
    folder::is_ours,
    name::{self, Kind},
};

/// Removes temporary files whose writers have ended; then, while the cache's files take more than
/// `limit_bytes`, the entries that were not used for longest, but never `newest`.
///
/// Files of other names, links and files of other users are neither removed nor counted. A process
/// that has an entry mapped keeps it.
pub(super) fn make(dir: &Path, newest: &Path, limit_bytes: u64) {
    let Ok(files) = fs::read_dir(dir) else { return };
    let mut entries = Vec::new();
    let mut total = 0_u64;
    for file in files.flatten() {
        let (path, name) = (file.path(), file.file_name());
        let kind = name.to_str().and_then(name::kind);
        let (Some(kind), Ok(found)) = (kind, fs::symlink_metadata(&path)) else {
            continue;
        };
        if !found.is_file() || !is_ours(&found) {
            continue;
        }
        if kind == Kind::Temporary && file::remove_if_abandoned(&path) {
            continue;
        }
        total = total.saturating_add(found.len());
        if kind == Kind::Entry && path != newest {
            let used = found.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push((used, found.len(), path));
        }
    }
    entries.sort();
    for (_, len, path) in entries {
        if total <= limit_bytes {
            break;
        }
        // Another process may have removed it already.
        let _ = fs::remove_file(path);
        total = total.saturating_sub(len);
    }
}
