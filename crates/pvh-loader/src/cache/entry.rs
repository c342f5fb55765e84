//! The files of the cache: an ELF, and behind it a mark that all of it is there.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    time::{Duration, SystemTime},
};

use nix::fcntl::OFlag;

use super::is_ours;

/// Opens an entry, if it is whole and this user's.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    let found = file.metadata()?;
    let mut mark = [0; MARK.len()];
    let mut len = [0; 8];
    let mark_at = found.len().checked_sub(TRAILER_BYTES);
    let mark_at = mark_at.ok_or(io::ErrorKind::InvalidData)?;
    file.read_exact_at(&mut mark, mark_at)?;
    file.read_exact_at(&mut len, mark_at.saturating_add(mark.len() as u64))?;
    let is_whole = mark == *MARK && u64::from_le_bytes(len) == mark_at;
    if found.is_file() && is_ours(&found) && is_whole {
        return Ok(file);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The file of an entry that has no name yet; it is removed unless it gets one.
#[derive(Debug)]
pub(super) struct Unnamed {
    path: PathBuf,
    is_named: bool,
}

impl Unnamed {
    /// Gives the file its name.
    pub(super) fn rename(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.is_named {
            // Without a name it is of no use to anyone; if it cannot be removed, the next run will.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes an entry to a file without a name in `dir`, and opens it for reading only.
pub(super) fn write(dir: &Path, bytes: &[u8]) -> io::Result<(Unnamed, File)> {
    let number = RandomState::new().hash_one(process::id());
    let path = dir.join(format!("{TEMPORARY}{number:016x}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o400);
    let mut file = options.open(&path)?;
    let unnamed = Unnamed {
        path,
        is_named: false,
    };
    file.write_all(bytes)
        .and_then(|()| file.write_all(MARK))
        .and_then(|()| file.write_all(&(bytes.len() as u64).to_le_bytes()))
        .and_then(|()| File::open(&unnamed.path))
        .map(|file| (unnamed, file))
}

/// Removes what was not used for longest until the rest is within the limit, but never `newest`;
/// and what other runs have left unfinished. A run that has an entry mapped keeps it.
pub(super) fn make_room(dir: &Path, newest: &Path, limit_bytes: u64) {
    let Ok(files) = fs::read_dir(dir) else { return };
    let now = SystemTime::now();
    let mut entries = Vec::new();
    let mut total = 0_u64;
    for file in files.flatten() {
        let (path, Ok(found)) = (file.path(), file.metadata()) else {
            continue;
        };
        let name = file.file_name();
        let name = name.to_string_lossy();
        let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if name.starts_with(TEMPORARY) {
            let age = now.duration_since(used).unwrap_or_default();
            if age > ABANDONED {
                // Another run may have been faster.
                let _ = fs::remove_file(path);
            }
        } else if name.ends_with(".elf") {
            total = total.saturating_add(found.len());
            if path != newest {
                entries.push((used, found.len(), path));
            }
        }
    }
    entries.sort();
    for (_, len, path) in entries {
        if total <= limit_bytes {
            break;
        }
        // If it cannot be removed, nothing can; if it is gone, so much the better.
        let _ = fs::remove_file(path);
        total = total.saturating_sub(len);
    }
}

/// How the name of a file begins that is still being written.
const TEMPORARY: &str = "unfinished-";

/// Nobody writes for so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Ends an entry, before its length.
const MARK: &[u8; 16] = b"\0pvh-vmm cache 1";

const TRAILER_BYTES: u64 = MARK.len() as u64 + 8;
