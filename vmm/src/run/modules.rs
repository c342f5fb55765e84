//! Opens the modules of a run; a module from a pipe is read into memory first.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pvh_config::{ModuleConfig, RunConfig};
use pvh_loader::module::{ModuleError, ModuleSource};

use super::error::RunError;

/// Opens all modules, in order.
///
/// # Errors
///
/// [`RunError::Module`], [`RunError::LongModule`].
pub(super) fn open(config: &RunConfig) -> Result<Vec<ModuleSource>, RunError> {
    let modules = config.modules.iter().map(|module| {
        let mut source = open_one(module, config.memory_bytes)?;
        source.cmdline.clone_from(&module.cmdline);
        Ok(source)
    });
    modules.collect()
}

/// Opens a module; from a pipe it reads at most `limit_bytes`, the size of guest RAM.
fn open_one(module: &ModuleConfig, limit_bytes: u64) -> Result<ModuleSource, RunError> {
    let (option, path) = (module.option, module.path.as_path());
    let refused = |source| {
        let path = path.to_owned();
        RunError::Module {
            option,
            path,
            source,
        }
    };
    let is_pipe = |kind: fs::FileType| kind.is_fifo() || kind.is_socket();
    if !fs::metadata(path).is_ok_and(|metadata| is_pipe(metadata.file_type())) {
        return ModuleSource::open(path).map_err(refused);
    }
    let file = read_pipe(path, limit_bytes).map_err(|error| refused(ModuleError::Open(error)))?;
    let file = file.ok_or_else(|| RunError::LongModule {
        option,
        path: path.to_owned(),
        limit_bytes,
    })?;
    ModuleSource::from_file(file).map_err(refused)
}

/// Reads a pipe into a file in memory; returns `None` if there is more than `limit_bytes`.
fn read_pipe(path: &Path, limit_bytes: u64) -> io::Result<Option<File>> {
    let pipe = File::open(path)?;
    let mut file = File::from(memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?);
    let len_bytes = io::copy(&mut pipe.take(limit_bytes.saturating_add(1)), &mut file)?;
    Ok((len_bytes <= limit_bytes).then_some(file))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::{io::Write, thread};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn through_a_pipe(bytes: &'static [u8], limit_bytes: u64) -> Result<ModuleSource, RunError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let writer = thread::spawn({
            let path = path.clone();
            // A reader that refuses the rest ends the writing.
            move || drop(File::create(path).unwrap().write_all(bytes))
        });
        let module = ModuleConfig {
            option: "--initrd",
            path,
            cmdline: None,
        };
        let opened = open_one(&module, limit_bytes);
        writer.join().unwrap();
        opened
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_no_further_than_memory() {
        let source = through_a_pipe(b"12345", 5).unwrap();
        assert_eq!(source.len_bytes(), 5);
        let refused = through_a_pipe(b"123456", 5).unwrap_err();
        assert!(matches!(
            refused,
            RunError::LongModule { limit_bytes: 5, .. }
        ));
    }
}
