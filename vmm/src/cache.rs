//! Opens a kernel with the cache of unpacked kernels that the command line names.

use std::{
    path::Path,
    thread::{self, JoinHandle},
};

use pvh_loader::{
    Image, ImageError,
    cache::{Cache, CacheError, PendingEntry},
    image::Limits,
};

use crate::{
    config::CacheConfig,
    exit::{complain, sentence},
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
    fn of(pending: Option<PendingEntry>) -> Self {
        let Some(pending) = pending else {
            return Self::default();
        };
        let thread = thread::Builder::new().name("cache".to_owned());
        // Without a thread, or when the disk refuses, the next start unpacks the kernel again.
        let thread = thread.spawn(move || drop(pending.finish()));
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

/// Opens the kernel at `path` with the cache of `config`. A folder that was named and cannot be used is reported.
///
/// # Errors
///
/// Those of [`Image::from_file`]; the kernel is opened without the cache if that has a fault.
pub(crate) fn open_as(config: &CacheConfig, path: &Path) -> Result<Opened, ImageError> {
    let cache = match config {
        CacheConfig::None => None,
        CacheConfig::OfUser => Cache::of_user("pvh-vmm"),
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
        keeping: Keeping::of(opened.pending),
    })
}

fn report(why: &CacheError) {
    complain(&sentence(why, Some("the kernel is unpacked without it")));
}
