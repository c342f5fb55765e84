//! Finds files that were changed while guest memory was mapped from them.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pvh_loader::{Image, module::ModuleSource};

use crate::config::ModuleConfig;

/// A file that was changed in place while guest memory was mapped from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Changed {
    path: PathBuf,
    was_bytes: u64,
    is_bytes: u64,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.is_bytes == self.was_bytes {
            write!(f, "{path} was written to while the guest ran")?;
        } else {
            let Self {
                was_bytes,
                is_bytes,
                ..
            } = self;
            write!(
                f,
                "{path} changed from {was_bytes} to {is_bytes} bytes while the guest ran"
            )?;
        }
        f.write_str(", but guest memory is mapped from it: do not change it, or use --load copy")
    }
}

/// Finds the first file among kernel and modules that was changed after `since`.
pub(crate) fn changed(
    kernel: (&Path, &Image),
    modules: (&[ModuleConfig], &[ModuleSource]),
    since: SystemTime,
) -> Option<Changed> {
    let (path, image) = kernel;
    let file = image.file_range().map(|(file, _)| file);
    let kernel = (path, file, image.len_bytes());
    let (configs, sources) = modules;
    let modules = configs.iter().zip(sources);
    let modules =
        modules.map(|(config, source)| (config.path.as_path(), source.file(), source.len_bytes()));
    let mut files = [kernel].into_iter().chain(modules);
    files.find_map(|(path, file, was_bytes)| {
        // A file that cannot be examined now is not reported as changed.
        let (is_bytes, modified) = look(file?).ok()?;
        let is_changed = is_bytes != was_bytes || modified > since;
        is_changed.then(|| Changed {
            path: path.to_owned(),
            was_bytes,
            is_bytes,
        })
    })
}

fn look(file: BorrowedFd<'_>) -> io::Result<(u64, SystemTime)> {
    let metadata = File::from(file.try_clone_to_owned()?).metadata()?;
    Ok((metadata.len(), metadata.modified()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pvh_testkit::elf::{Class, Elf};

    use super::*;

    fn change(since: SystemTime, change: impl FnOnce(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
        std::fs::write(&kernel, Elf::bootable(Class::Elf64, 0x10_0000).build()).unwrap();
        std::fs::write(&initrd, [1; 100]).unwrap();
        let image = Image::open(&kernel).unwrap();
        let sources = [ModuleSource::open(&initrd).unwrap()];
        let configs = [ModuleConfig {
            path: initrd,
            cmdline: None,
        }];
        change(dir.path());
        let changed = changed((&kernel, &image), (&configs, &sources), since);
        let told = changed.map(|changed| changed.to_string());
        told.map(|told| told.replace(&format!("{}/", dir.path().display()), ""))
    }

    fn later() -> SystemTime {
        SystemTime::now()
            .checked_add(Duration::from_secs(3600))
            .unwrap()
    }

    #[test]
    fn unchanged_and_replaced_files_are_not_reported() {
        assert_eq!(change(later(), |_| ()), None);
        let replace = |dir: &Path| {
            std::fs::write(dir.join("new"), b"new").unwrap();
            std::fs::rename(dir.join("new"), dir.join("initrd")).unwrap();
            std::fs::remove_file(dir.join("kernel")).unwrap();
        };
        assert_eq!(change(later(), replace), None);
    }

    #[test]
    fn a_file_that_was_cut_short_is_named_with_its_lengths() {
        let told = change(later(), |dir| {
            std::fs::write(dir.join("initrd"), b"short").unwrap();
        });
        assert_eq!(
            told.unwrap(),
            "initrd changed from 100 to 5 bytes while the guest ran, but guest memory is mapped from it: do not change \
             it, or use --load copy"
        );
    }

    #[test]
    fn a_file_that_was_written_to_is_named() {
        let told = change(SystemTime::UNIX_EPOCH, |_| ()).unwrap();
        assert!(
            told.starts_with("kernel was written to while the guest ran, but "),
            "{told}"
        );
    }
}
