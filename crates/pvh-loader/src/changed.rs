//! Finds files that were changed while guest memory was mapped from them.

use std::{fmt, fs::File, io, os::fd::BorrowedFd, time::SystemTime};

use crate::{module::ModuleSource, plan::Plan};

/// A file of a plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanFile {
    /// The image's file.
    Kernel,
    /// The file of a module.
    Module {
        /// The index of the module in [`Boot::modules`](crate::plan::Boot::modules).
        index: usize,
    },
}

/// A file that was changed in place after it was opened. Its Display says how, without its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ChangedFile {
    /// Which file it is.
    pub file: PlanFile,
    /// Its length when it was opened.
    pub was_bytes: u64,
    /// Its length now.
    pub is_bytes: u64,
}

impl fmt::Display for ChangedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            was_bytes,
            is_bytes,
            ..
        } = self;
        if is_bytes == was_bytes {
            return f.write_str("was written to while the guest ran");
        }
        write!(
            f,
            "changed from {was_bytes} to {is_bytes} bytes while the guest ran"
        )
    }
}

impl Plan<'_> {
    /// Finds the first file among the kernel and the modules that was changed in place: its length
    /// is not that of when it was opened, or its modification time is after `since`.
    ///
    /// After a commit by [`Method::Map`](crate::Method::Map) such a change is a change of guest
    /// memory, and so a likely cause of a crash. A file that was replaced by another one of its
    /// name is not changed. A file that cannot be examined is not reported.
    #[must_use]
    pub fn changed_file(&self, since: SystemTime) -> Option<ChangedFile> {
        let image = self.image();
        let file = image.file_range().map(|(file, _)| file);
        let kernel = (PlanFile::Kernel, file, image.len_bytes());
        let modules = (0..).zip(&self.boot().modules);
        let modules = modules.map(|(index, module): (usize, &ModuleSource)| {
            let name = PlanFile::Module { index };
            (name, module.file(), module.len_bytes())
        });
        let mut files = [kernel].into_iter().chain(modules);
        files.find_map(|(name, file, was_bytes)| {
            let (is_bytes, modified) = look(file?).ok()?;
            let is_changed = is_bytes != was_bytes || modified > since;
            is_changed.then_some(ChangedFile {
                file: name,
                was_bytes,
                is_bytes,
            })
        })
    }
}

fn look(file: BorrowedFd<'_>) -> io::Result<(u64, SystemTime)> {
    let metadata = File::from(file.try_clone_to_owned()?).metadata()?;
    Ok((metadata.len(), metadata.modified()?))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use pvh_abi::{Gpa, start_info::MemmapKind};
    use pvh_start_info::MemmapRange;
    use pvh_testkit::elf::{Class, Elf};

    use super::*;
    use crate::{Boot, Image};

    fn change(since: SystemTime, change: impl FnOnce(&Path)) -> Option<ChangedFile> {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
        std::fs::write(&kernel, Elf::bootable(Class::Elf64, 0x10_0000).build()).unwrap();
        std::fs::write(&initrd, [1; 100]).unwrap();
        let image = Image::open(&kernel).unwrap();
        let boot = Boot {
            modules: vec![ModuleSource::open(&initrd).unwrap()],
            memmap: vec![MemmapRange {
                start: Gpa(0),
                len_bytes: 16 << 20,
                kind: MemmapKind::RAM,
            }],
            ..Boot::default()
        };
        let plan = image.plan(&boot).unwrap();
        change(dir.path());
        plan.changed_file(since)
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
        let found = change(later(), |dir| {
            std::fs::write(dir.join("initrd"), b"short").unwrap();
        });
        let found = found.unwrap();
        assert_eq!(found.file, PlanFile::Module { index: 0 });
        assert_eq!(
            found.to_string(),
            "changed from 100 to 5 bytes while the guest ran"
        );
    }

    #[test]
    fn a_file_that_was_written_to_is_named() {
        let found = change(SystemTime::UNIX_EPOCH, |_| ()).unwrap();
        assert_eq!(found.file, PlanFile::Kernel);
        assert_eq!(found.to_string(), "was written to while the guest ran");
    }
}
