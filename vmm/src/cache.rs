//! The cache of unpacked kernels: opens kernels with it, lists it and clears it.

use std::{fmt::Write as _, fs, path::Path, thread::JoinHandle, time::SystemTime};

use pvh_config::{
    CacheArguments, CacheConfig, Rounded,
    exit::{ARGUMENTS, HOST, REFUSED, SUCCESS},
};
use pvh_loader::{
    Image, ImageError,
    cache::{Cache, CacheEntry, CacheError, PendingEntry},
    image::Limits,
};

use crate::{
    exit::{complain, print, sentence},
    threads::{self, OnPanic, Role},
};

/// An open kernel, and the thread that may still be writing it to the cache.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The kernel.
    pub(crate) image: Image,
    /// Waits for the cache when it is dropped.
    pub(crate) keeping: Keeping,
}

impl From<Image> for Opened {
    /// A kernel that no cache is to keep.
    fn from(image: Image) -> Self {
        Self {
            image,
            keeping: Keeping::default(),
        }
    }
}

/// The thread that finishes an entry of the cache; dropping it waits for the thread.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Option<JoinHandle<()>>);

impl Keeping {
    fn of(cache: &Cache, pending: Option<PendingEntry>) -> Self {
        let Some(pending) = pending else {
            return Self::default();
        };
        // Without a thread, or when the disk refuses, the next start unpacks the kernel again.
        let finish = move || drop(pending.finish());
        let folder = Some(cache.entries_dir().to_owned());
        let thread = threads::start_in(folder, Role::Cache, OnPanic::Report, finish);
        Self(thread.ok())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // Its panic has been printed; only the entry is lost.
            let _ = thread.join();
        }
    }
}

/// Opens the kernel at `path` with the cache of `config`. A folder that was named and cannot be
/// used is reported.
///
/// # Errors
///
/// Those of [`Image::from_file`]; the kernel is opened without the cache if that has a fault.
pub(crate) fn open_as(config: &CacheConfig, path: &Path) -> Result<Opened, ImageError> {
    let cache = match config {
        CacheConfig::None => None,
        CacheConfig::OfUser => Cache::of_user(FOLDER),
        CacheConfig::At(dir) => Cache::at(dir.clone()).map_err(|why| report(&why)).ok(),
    };
    let Some(cache) = cache else {
        return Image::open(path).map(Opened::from);
    };
    let opened = cache.open(path, &Limits::default())?;
    if let (CacheConfig::At(_), Some(why)) = (config, &opened.unkept) {
        report(why);
    }
    Ok(Opened {
        image: opened.image,
        keeping: Keeping::of(&cache, opened.pending),
    })
}

/// Lists or clears the cache and returns the exit code.
pub(crate) fn run(arguments: CacheArguments) -> u8 {
    let is_named = arguments.cache.is_some();
    let dir = match arguments.cache {
        Some(dir) if dir.as_os_str() == "none" => {
            complain(OFF);
            return ARGUMENTS;
        }
        dir => dir.or_else(|| Cache::user_dir(FOLDER)),
    };
    let Some(dir) = dir else {
        complain(NO_USER_CACHE);
        return HOST;
    };
    let cache = match Cache::find_at(dir.clone()) {
        Ok(Some(cache)) => cache,
        Ok(None) => return report_none(&dir, is_named),
        Err(why) => {
            complain(&sentence(&why, None::<&str>));
            return HOST;
        }
    };
    let entries = match arguments.clear {
        true => cache.clear(),
        false => cache.entries(),
    };
    match entries {
        Ok(entries) => print(&page(&cache, &entries, arguments.clear), SUCCESS),
        Err(why) => {
            let dir = cache.entries_dir().display();
            complain(&format!("{dir}: cannot read or clear the cache: {why}"));
            HOST
        }
    }
}

/// Says that there is no cache in `dir`, and returns the exit code. A folder that was named may be
/// mistyped; the user's own is made by the first run that keeps a kernel.
fn report_none(dir: &Path, is_named: bool) -> u8 {
    let shown = dir.display();
    let is_missing = fs::symlink_metadata(dir).is_err();
    match (is_missing, is_named) {
        (true, true) => {
            complain(&format!("{shown}: no cache: this folder does not exist"));
            REFUSED
        }
        (true, false) => print(
            &format!("{shown}: no cache yet: this folder does not exist"),
            SUCCESS,
        ),
        (false, _) => print(&format!("{shown}: no kernel was ever kept here"), SUCCESS),
    }
}

/// Lists entries: size, time since the last use, file.
fn page(cache: &Cache, entries: &[CacheEntry], is_cleared: bool) -> String {
    let total = entries.iter().map(|entry| entry.len_bytes).sum();
    let (dir, count) = (cache.entries_dir().display(), entries.len());
    let kernels = if count == 1 { "kernel" } else { "kernels" };
    if is_cleared {
        return format!("{dir}: removed {count} {kernels}, {}", Rounded(total));
    }
    let limit = Rounded(Cache::LIMIT_BYTES);
    let mut page = format!("{dir}: {count} {kernels}, {} of {limit}", Rounded(total));
    for entry in entries {
        let age = entry
            .last_used
            .and_then(|used| SystemTime::now().duration_since(used).ok());
        let age = age.map_or_else(
            || "unknown".to_owned(),
            |age| format!("{} h ago", age.as_secs() / 3600),
        );
        let name = entry.path.file_name().unwrap_or_default().display();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n  {:>10}  last used {age}  {name}",
            Rounded(entry.len_bytes).to_string()
        );
    }
    page
}

fn report(why: &CacheError) {
    complain(&sentence(why, Some("the kernel is unpacked without it")));
}

/// The cache's folder in the user's cache folder.
const FOLDER: &str = "pvh-vmm";
const NO_USER_CACHE: &str = "neither XDG_CACHE_HOME nor HOME names a folder; name one with --cache";
const OFF: &str =
    "--cache none turns the cache off, so there is nothing to list or clear; name a folder";
