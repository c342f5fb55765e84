//! Packed kernels that were unpacked before: the second start of one maps it, as it does a plain ELF.
//!
//! A folder of the user's holds a file for each, named by what the packed file was: device, inode, length, times, and
//! a digest of its ends. A file that changes gets another name; what is left of the old one goes when there is no room.

mod entry;
mod key;

use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::SystemTime,
};

use nix::unistd::geteuid;
use pvh_loader::{Image, ImageError, image::Limits};

use crate::{
    config::CacheConfig,
    exit::{complain, sentence},
};
use key::Key;

/// The folder, and how much may lie in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cache {
    dir: PathBuf,
    limit_bytes: u64,
}

/// An open kernel, and what may still be going on to keep it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The kernel.
    pub(crate) image: Image,
    /// Waits for the kernel to be kept when it is dropped.
    pub(crate) keeping: Keeping,
    /// Why it is not kept, though it was to be.
    unkept: Option<io::Error>,
}

impl From<Image> for Opened {
    /// With nothing going on.
    fn from(image: Image) -> Self {
        Self {
            image,
            keeping: Keeping::default(),
            unkept: None,
        }
    }
}

/// A thread that makes an entry last; dropping it waits for that.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Option<JoinHandle<()>>);

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic in it has been printed, and takes nothing with it but the entry.
            let _ = thread.join();
        }
    }
}

/// Why the folder that was asked for is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It cannot be made or looked at.
    #[error("the cache folder {} cannot be used", dir.display())]
    Host {
        /// The folder.
        dir: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody else could put kernels into it.
    #[error("the cache folder {} is not this user's alone", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
    },
    /// It takes no kernel.
    #[error("the unpacked kernel cannot be written to the cache folder {}", dir.display())]
    Unkept {
        /// The folder.
        dir: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

impl Cache {
    /// Uses `dir`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Unusable`]: kernels in it are run, so it must belong to this user, and nobody else may write to it.
    pub(crate) fn at(dir: PathBuf) -> Result<Self, Unusable> {
        let mut builder = DirBuilder::new();
        let looked = builder
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| fs::metadata(&dir));
        match looked {
            Ok(found) if is_ours(&found) => Ok(Self {
                dir,
                limit_bytes: LIMIT_BYTES,
            }),
            Ok(_) => Err(Unusable::NotOurs { dir }),
            Err(source) => Err(Unusable::Host { dir, source }),
        }
    }

    /// Uses the user's cache folder, if there is one to be used.
    pub(crate) fn of_user() -> Option<Self> {
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.filter(|base| base.is_absolute());
        let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
        if !base.is_absolute() {
            return None;
        }
        Self::at(base.join("pvh-vmm")).ok()
    }
}

/// Opens the kernel at `path` with the cache that was asked for; one that cannot be used is complained of, if it was named.
///
/// # Errors
///
/// As [`open`].
pub(crate) fn open_as(cache: &CacheConfig, path: &Path) -> Result<Opened, ImageError> {
    match cache {
        CacheConfig::None => open(path, None),
        CacheConfig::OfUser => open(path, Cache::of_user().as_ref()),
        CacheConfig::At(dir) => {
            let cache = Cache::at(dir.clone()).map_err(tell).ok();
            let mut opened = open(path, cache.as_ref())?;
            if let Some(source) = opened.unkept.take() {
                let dir = dir.clone();
                tell(Unusable::Unkept { dir, source });
            }
            Ok(opened)
        }
    }
}

fn tell(unusable: Unusable) {
    let fix = Some("the kernel is unpacked without it");
    complain(&sentence(&unusable, fix));
}

/// Opens the kernel at `path`, unpacked already if `cache` has it; otherwise it is unpacked, and kept.
///
/// # Errors
///
/// Those of [`Image::from_file`]; whatever is wrong with the cache, the kernel is opened without it.
fn open(path: &Path, cache: Option<&Cache>) -> Result<Opened, ImageError> {
    let file = File::open(path).map_err(|source| ImageError::Open { source })?;
    let plain = |file| Image::from_file(file, &Limits::default()).map(Opened::from);
    let (Some(cache), true) = (cache, is_packed(&file)) else {
        return plain(file);
    };
    let (Ok(key), Ok(again)) = (Key::of(&file), file.try_clone()) else {
        return plain(file);
    };
    if let Some(image) = cache.find(&key) {
        return Ok(image.into());
    }
    let opened = plain(file)?;
    let is_settled = key.is_settled(SystemTime::now());
    // A file that changed while it was read has another key now, or is too young to tell.
    if !is_settled || Key::of(&again).ok().as_ref() != Some(&key) {
        return Ok(opened);
    }
    Ok(cache.keep(&key, opened))
}

impl Cache {
    fn find(&self, key: &Key) -> Option<Image> {
        let path = self.dir.join(key.name());
        let file = entry::open(&path).ok()?;
        // The age of an entry is that of its last use; that it cannot be noted matters to nobody.
        let _ = file.set_modified(SystemTime::now());
        let image = Image::from_file(file, &Limits::default());
        image
            .inspect_err(|_| {
                // It may be gone already: another run found the same.
                let _ = fs::remove_file(&path);
            })
            .ok()
    }

    /// Writes the kernel to a file of its own, from which it is mapped, and gives it its name once it is on the disk.
    fn keep(&self, key: &Key, mut opened: Opened) -> Opened {
        let Some(bytes) = opened.image.bytes() else {
            return opened;
        };
        let (temporary, file) = match entry::write(&self.dir, bytes) {
            Ok(written) => written,
            Err(why) => {
                opened.unkept = Some(why);
                return opened;
            }
        };
        let image = file
            .try_clone()
            .ok()
            .and_then(|file| Image::from_file(file, &Limits::default()).ok());
        let Some(image) = image else {
            let _ = fs::remove_file(temporary); // and nothing has happened
            return opened;
        };
        let (cache, name) = (self.clone(), key.name());
        let thread = thread::Builder::new().name("cache".to_owned());
        let thread = thread.spawn(move || {
            let path = cache.dir.join(name);
            let named = file
                .sync_data()
                .and_then(|()| fs::rename(&temporary, &path));
            if named.is_err() {
                // Without a name it is of no use to anyone.
                let _ = fs::remove_file(&temporary);
            }
            entry::make_room(&cache.dir, &path, cache.limit_bytes);
        });
        Opened {
            image,
            keeping: Keeping(thread.ok()),
            unkept: None,
        }
    }
}

/// Tells whether a file is to be unpacked: a bzImage, or anything that gzip packed.
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

/// Tells whether a file or folder is this user's, and nobody else may write to it.
fn is_ours(found: &fs::Metadata) -> bool {
    found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0
}

/// Some twenty kernels of distributions.
const LIMIT_BYTES: u64 = 1 << 30;

/// Where the mark of a bzImage ends.
const HEAD_LEN: usize = 0x206;

#[cfg(test)]
mod tests;
