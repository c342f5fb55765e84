//! Files of the cache: opened without following links, and written under a lock until they have a
//! name.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use super::name;

/// A file that its process is writing or syncing. It is removed unless it gets a name.
#[derive(Debug)]
pub(super) struct Unnamed {
    path: PathBuf,
    is_named: bool,
    /// While this lock is held, other processes leave the file alone.
    lock: Flock<File>,
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
            // Without a name it is of no use; if it cannot be removed now, the next process does
            // it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a regular file for reading, without following a link or waiting for a FIFO's writer.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    let found = file.metadata()?;
    if found.is_file() {
        return Ok((file, found));
    }
    Err(ErrorKind::InvalidData.into())
}

/// Writes a temporary file into `dir`, and opens it again for reading only.
pub(super) fn write(
    dir: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<(Unnamed, File)> {
    let mut unnamed = create(dir)?;
    write(&mut unnamed.lock)?;
    let (file, _) = open(&unnamed.path)?;
    Ok((unnamed, file))
}

/// Removes a temporary file if its writer has ended, and tells whether it did.
pub(super) fn remove_if_abandoned(path: &Path) -> bool {
    let Ok((file, _)) = open(path) else {
        return false;
    };
    // A writer holds the lock until its file is named or removed.
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    lock.is_ok() && fs::remove_file(path).is_ok()
}

fn create(dir: &Path) -> io::Result<Unnamed> {
    for attempt in 0..ATTEMPTS {
        let number = RandomState::new().hash_one((process::id(), attempt));
        let path = dir.join(name::temporary(number));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o400);
        let file = options.open(&path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, why)| why)?;
        let is_there = lock.metadata()?.nlink() > 0;
        let unnamed = Unnamed {
            path,
            is_named: false,
            lock,
        };
        // Before the lock was held, another process may have taken the file for an abandoned one.
        if is_there {
            return Ok(unnamed);
        }
    }
    Err(ErrorKind::Interrupted.into())
}

/// How often another process may remove the file before it is locked.
const ATTEMPTS: u32 = 8;
