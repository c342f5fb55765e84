//! The folder of the entries: who may write to it, and whether this cache made it.

use std::{
    fs::{self, DirBuilder, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::{error::CacheError, file, name};

/// Makes the folder `dir`, checks it and its parents, and returns the sub-folder of the entries.
pub(super) fn open(dir: &Path) -> Result<PathBuf, CacheError> {
    let host = |source| CacheError::Host {
        dir: dir.to_owned(),
        source,
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    if fs::symlink_metadata(dir).is_err() {
        check_place(dir)?;
        builder.create(dir).map_err(host)?;
    }
    check_folder(dir, dir)?;
    let real = fs::canonicalize(dir).map_err(host)?;
    check_parents(dir, &real)?;
    let entries = real.join(ENTRIES);
    match DirBuilder::new().mode(0o700).create(&entries) {
        Err(why) if why.kind() != ErrorKind::AlreadyExists => return Err(host(why)),
        _ => check_folder(dir, &entries)?,
    }
    let is_marked = match marker(&entries).map_err(host)? {
        Marker::Missing => write_marker(&entries).map(|()| true).map_err(host)?,
        found => found == Marker::Good,
    };
    match is_marked {
        true => Ok(entries),
        false => Err(CacheError::NotMadeHere { dir: entries }),
    }
}

/// Looks for what [`open`] makes, and makes nothing: checks the folder `dir` and its parents, and
/// returns the sub-folder of the entries; nothing if either folder is not there.
pub(super) fn find(dir: &Path) -> Result<Option<PathBuf>, CacheError> {
    let host = |source| CacheError::Host {
        dir: dir.to_owned(),
        source,
    };
    if !is_there(dir).map_err(host)? {
        return Ok(None);
    }
    check_folder(dir, dir)?;
    let real = fs::canonicalize(dir).map_err(host)?;
    check_parents(dir, &real)?;
    let entries = real.join(ENTRIES);
    if !is_there(&entries).map_err(host)? {
        return Ok(None);
    }
    check_folder(dir, &entries)?;
    match marker(&entries).map_err(host)? {
        Marker::Foreign => Err(CacheError::NotMadeHere { dir: entries }),
        Marker::Good | Marker::Missing => Ok(Some(entries)),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

/// Tells whether a file or folder belongs to this user and nobody else may write to it.
pub(super) fn is_ours(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw() && found.mode() & WRITABLE_BY_OTHERS == 0
}

/// Checks that `path` is a folder, not a link to one, and this user's alone.
fn check_folder(dir: &Path, path: &Path) -> Result<(), CacheError> {
    let dir = dir.to_owned();
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => Err(CacheError::NotAFolder {
            dir,
            path: path.to_owned(),
        }),
        Ok(found) if is_ours(&found) => Ok(()),
        Ok(found) if found.uid() == geteuid().as_raw() => Err(CacheError::Writable {
            dir,
            path: path.to_owned(),
        }),
        Ok(_) => Err(CacheError::NotOurs { dir }),
        Err(source) => Err(CacheError::Host { dir, source }),
    }
}

/// Checks the parents of a real path by the rule of sshd: each belongs to root or to this user, and
/// nobody else may write to it. A sticky folder such as /tmp is accepted too: nobody else can
/// rename what is this user's in it.
fn check_parents(dir: &Path, real: &Path) -> Result<(), CacheError> {
    for parent in real.ancestors().skip(1) {
        let found = fs::symlink_metadata(parent).map_err(|source| CacheError::Host {
            dir: dir.to_owned(),
            source,
        })?;
        let mode = found.mode();
        let is_closed = mode & WRITABLE_BY_OTHERS == 0 || mode & STICKY != 0;
        if !is_closed || ![0, geteuid().as_raw()].contains(&found.uid()) {
            return Err(CacheError::UnsafeParent {
                dir: dir.to_owned(),
                parent: parent.to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks the parents that a new folder would have, so that one that would be refused is not made.
fn check_place(dir: &Path) -> Result<(), CacheError> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let is_there = |parent: &&Path| fs::symlink_metadata(parent).is_ok();
    let Some(parent) = dir.ancestors().skip(1).find(is_there) else {
        return Ok(());
    };
    let real = fs::canonicalize(parent).map_err(|source| CacheError::Host {
        dir: dir.clone(),
        source,
    })?;
    check_parents(&dir, &real.join(ENTRIES))
}

/// What the marker of a folder says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Marker {
    /// This cache made the folder.
    Good,
    /// The folder is new: all files in it have names of this cache.
    Missing,
    /// Something else made the folder.
    Foreign,
}

/// Looks for the marker in `entries`.
fn marker(entries: &Path) -> io::Result<Marker> {
    match file::open(&entries.join(MARKER)) {
        Ok((mut marker, found)) => {
            let mut text = String::new();
            let read = marker.by_ref().take(1 << 12).read_to_string(&mut text);
            let is_good = is_ours(&found) && read.is_ok() && text == MARKER_TEXT;
            Ok(if is_good {
                Marker::Good
            } else {
                Marker::Foreign
            })
        }
        Err(why) if why.kind() == ErrorKind::NotFound => {
            for found in fs::read_dir(entries)? {
                let found = found?.file_name();
                // Another process may have written the marker meanwhile.
                if !(found.to_str().is_some_and(name::is_ours) || found == MARKER) {
                    return Ok(Marker::Foreign);
                }
            }
            Ok(Marker::Missing)
        }
        Err(_) => Ok(Marker::Foreign),
    }
}

/// Writes the marker of a new folder.
fn write_marker(entries: &Path) -> io::Result<()> {
    let (unnamed, _) = file::write(entries, |file| {
        io::Write::write_all(file, MARKER_TEXT.as_bytes())
    })?;
    unnamed.rename(&entries.join(MARKER))
}

/// The sub-folder of the entries.
const ENTRIES: &str = "unpacked";

/// The file that says that this cache made the sub-folder; by this name, backups skip the folder.
const MARKER: &str = "CACHEDIR.TAG";

const MARKER_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Unpacked kernels, written by pvh-loader (format 2). They may be deleted at any time.\n";

/// Write permission of the group and of all others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// In a sticky folder, only the owner of a file may rename or delete it.
const STICKY: u32 = 0o1000;
