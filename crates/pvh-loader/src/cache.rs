//! A folder of kernels that were unpacked before (feature `cache`).
//!
//! The second start of a packed kernel maps the unpacked one, as it maps a plain ELF. Each entry is
//! named after the packed file: device, inode, length, times, and a digest of its first and last
//! bytes. A file that changes gets another entry; the old one is removed when the folder is full.

mod entry;
mod error;
mod file;
mod folder;
mod key;
mod list;
mod name;
mod room;

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::{entry::Found, file::Unnamed, key::Key};
pub use self::{error::CacheError, list::CacheEntry};
use crate::image::{Image, ImageError, Limits};

/// A folder for unpacked kernels, and how many bytes they may take there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cache {
    dir: PathBuf,
    /// The sub-folder of the entries.
    entries: PathBuf,
    limit_bytes: u64,
}

/// A kernel that was opened with a cache.
#[derive(Debug)]
#[must_use]
pub struct Opened {
    /// The kernel.
    pub image: Image,
    /// The rest of the work that keeps it in the cache, if it is not kept there yet. The kernel can
    /// run meanwhile.
    pub pending: Option<PendingEntry>,
    /// Why the cache did not take the kernel, though it should have.
    pub unkept: Option<CacheError>,
}

impl From<Image> for Opened {
    /// A kernel that no cache is to keep.
    fn from(image: Image) -> Self {
        Self {
            image,
            pending: None,
            unkept: None,
        }
    }
}

/// An entry that is written and has no name yet. Dropping it removes the file; the kernel that is
/// mapped from it stays.
#[derive(Debug)]
#[must_use]
pub struct PendingEntry {
    cache: Cache,
    unnamed: Unnamed,
    file: File,
    path: PathBuf,
}

impl Cache {
    /// How many bytes the kernels in the folder may take: 1 GiB, some twenty kernels of
    /// distributions.
    pub const LIMIT_BYTES: u64 = 1 << 30;

    /// Uses the folder `dir`, which is made if it is not there. Entries lie in its sub-folder
    /// `unpacked`.
    ///
    /// Kernels in the folder are run. So it must belong to this user, nobody else may write to it,
    /// and its parents must be as sshd wants those of a key file: they belong to root or to this
    /// user, and nobody else may write to them, except to a sticky folder such as /tmp. Neither
    /// `dir` nor anything in it may be a link. The cache removes and counts only files that it
    /// named.
    ///
    /// # Errors
    ///
    /// [`CacheError::Host`] if the folder cannot be made or examined; [`CacheError::NotAFolder`],
    /// [`CacheError::NotOurs`], [`CacheError::Writable`], [`CacheError::UnsafeParent`] and
    /// [`CacheError::NotMadeHere`] if it is not as described above.
    pub fn at(dir: PathBuf) -> Result<Self, CacheError> {
        let entries = folder::open(&dir)?;
        Ok(Self::new(dir, entries))
    }

    /// Finds the cache in the folder `dir`, to list or clear it, and makes nothing; `None` if there
    /// is no such folder or no kernel was ever kept there.
    ///
    /// # Errors
    ///
    /// Those of [`at`](Self::at).
    pub fn find_at(dir: PathBuf) -> Result<Option<Self>, CacheError> {
        let entries = folder::find(&dir)?;
        Ok(entries.map(|entries| Self::new(dir, entries)))
    }

    fn new(dir: PathBuf, entries: PathBuf) -> Self {
        Self {
            dir,
            entries,
            limit_bytes: Self::LIMIT_BYTES,
        }
    }

    /// Uses the folder `name` in the user's cache folder, if it can be used.
    #[must_use]
    pub fn of_user(name: &str) -> Option<Self> {
        Self::at(Self::user_dir(name)?).ok()
    }

    /// The path of the folder `name` in the user's cache folder (`$XDG_CACHE_HOME`, else
    /// `$HOME/.cache`); `None` if the environment names none.
    #[must_use]
    pub fn user_dir(name: &str) -> Option<PathBuf> {
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.filter(|base| base.is_absolute());
        let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
        base.is_absolute().then(|| base.join(name))
    }

    /// Opens the kernel at `path`: unpacked already if the cache has it, else unpacked now and
    /// written to the cache.
    ///
    /// A file that was written to in the last seconds is not kept, because a further change might
    /// not show in its times.
    ///
    /// # Errors
    ///
    /// Those of [`Image::from_file`]. No fault of the cache is an error: the kernel is opened
    /// without it then.
    pub fn open(&self, path: impl AsRef<Path>, limits: &Limits) -> Result<Opened, ImageError> {
        let file = File::open(path).map_err(|source| ImageError::Open { source })?;
        let plain = |file| Image::from_file(file, limits).map(Opened::from);
        if !is_packed(&file) {
            return plain(file);
        }
        let (Ok(key), Ok(again)) = (Key::of(&file), file.try_clone()) else {
            return plain(file);
        };
        let is_free = match self.find(&key) {
            Found::Kernel(image) => return Ok((*image).into()),
            Found::Foreign => false,
            Found::Damaged | Found::Nothing => true,
        };
        let opened = plain(file)?;
        let is_settled = key.is_settled(SystemTime::now());
        // A file that changed while it was read has another key now, or is too young to tell.
        if !is_free || !is_settled || Key::of(&again).ok().as_ref() != Some(&key) {
            return Ok(opened);
        }
        Ok(self.keep(&key, opened))
    }

    /// Finds the entry of a file. A damaged one is removed, so that the file is unpacked anew.
    fn find(&self, key: &Key) -> Found {
        let path = self.path(key);
        let found = entry::open(&path);
        if matches!(found, Found::Damaged) {
            // Another process may have removed it already.
            let _ = fs::remove_file(&path);
        }
        found
    }

    /// Writes the kernel to a file without a name in the cache, and opens it from there.
    fn keep(&self, key: &Key, mut opened: Opened) -> Opened {
        if opened.image.bytes().is_none() {
            return opened;
        }
        let path = self.path(key);
        room::make(&self.entries, &path, self.limit_bytes);
        let (unnamed, file) = match entry::write(&self.entries, &path, &opened.image) {
            Ok(written) => written,
            Err(source) => {
                let dir = self.dir.clone();
                opened.unkept = Some(CacheError::Unkept { dir, source });
                return opened;
            }
        };
        let image = file
            .try_clone()
            .ok()
            .and_then(|file| Image::from_file(file, &Limits::default()).ok());
        let Some(image) = image else {
            return opened; // without the file, which goes with `unnamed`
        };
        let pending = PendingEntry {
            cache: self.clone(),
            unnamed,
            file,
            path,
        };
        Opened {
            image,
            pending: Some(pending),
            unkept: None,
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.entries.join(name::entry(&key.text()))
    }
}

impl PendingEntry {
    /// Waits until the entry is on the disk, gives it its name, and removes the entries that were
    /// not used for longest while the folder holds more than its limit.
    ///
    /// This takes as long as the disk needs for the whole kernel. Call it on a thread of its own,
    /// beside the guest.
    ///
    /// # Errors
    ///
    /// The host's. The entry is gone then, and the kernel unharmed.
    pub fn finish(self) -> io::Result<()> {
        let Self {
            cache,
            unnamed,
            file,
            path,
        } = self;
        let named = file.sync_data().and_then(|()| unnamed.rename(&path));
        room::make(&cache.entries, &path, cache.limit_bytes);
        named
    }
}

/// Tells whether a file must be unpacked: a bzImage, or anything that gzip packed.
fn is_packed(file: &File) -> bool {
    let mut head = [0; HEAD_LEN];
    if !file.metadata().is_ok_and(|found| found.is_file())
        || file.read_exact_at(&mut head, 0).is_err()
    {
        return false;
    }
    let has_setup_header = head
        .get(0x202..)
        .is_some_and(|tail| tail.starts_with(b"HdrS"));
    !head.starts_with(b"\x7fELF") && (has_setup_header || head.starts_with(&[0x1F, 0x8B]))
}

/// Where the magic number of a bzImage ends.
const HEAD_LEN: usize = 0x206;

#[cfg(test)]
mod tests;
