//! The files that a run writes: it never overwrites a file that it reads.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::libc;
use pvh_backends::Pty;
use pvh_config::{ConsoleArgument, RunConfig};

use super::error::{RunError, host};
use crate::{console::ConsoleEnd, exit::complain};

/// Refuses an output file that is the kernel, a module or another output, or no regular file.
///
/// # Errors
///
/// [`RunError::Overwrites`], [`RunError::NoFile`].
pub(crate) fn check_outputs(config: &RunConfig) -> Result<(), RunError> {
    let modules = config.modules.iter().map(|module| module.path.as_path());
    let mut others: Vec<&Path> = config
        .kernel
        .as_deref()
        .into_iter()
        .chain(modules)
        .chain(config.disks.iter().map(|disk| disk.path.as_path()))
        .collect();
    let console = match &config.console {
        ConsoleArgument::File(path) => Some(path.clone()),
        _ => None,
    };
    let outputs = [
        ("--record", &config.record),
        ("--trace", &config.trace),
        ("--dump-on-crash", &config.dump_on_crash),
        ("--console", &console),
    ];
    for (option, path) in outputs {
        let Some(path) = path.as_deref() else {
            continue;
        };
        if others.iter().any(|other| are_one_file(path, other)) {
            let path = path.to_owned();
            return Err(RunError::Overwrites { option, path });
        }
        if fs::metadata(path).is_ok_and(|metadata| !is_file_or_null(&metadata)) {
            let path = path.to_owned();
            return Err(RunError::NoFile { option, path });
        }
        others.push(path);
    }
    Ok(())
}

/// Opens the file for the trace, if one is wanted.
///
/// # Errors
///
/// [`RunError::Trace`].
pub(crate) fn open_trace(config: &RunConfig) -> Result<Option<File>, RunError> {
    let opened = config.trace.as_deref().map(|path| {
        create(path).map_err(|source| RunError::Trace {
            path: path.to_owned(),
            source,
        })
    });
    opened.transpose()
}

/// Opens the host's end of the guest's console, and prints the name of a pseudo-terminal.
///
/// # Errors
///
/// [`RunError::Console`]; the host refuses a pseudo-terminal.
pub(super) fn open_console(config: &RunConfig) -> Result<ConsoleEnd, RunError> {
    match &config.console {
        ConsoleArgument::Stdio => Ok(ConsoleEnd::Stdio),
        ConsoleArgument::File(path) => {
            let file = create(path).map_err(|source| RunError::Console {
                path: path.clone(),
                source,
            })?;
            Ok(ConsoleEnd::File(file))
        }
        ConsoleArgument::Pty => {
            let pty = Pty::open().map_err(host("cannot make a pseudo-terminal"))?;
            complain(&format!("console: {}", pty.name().display()));
            Ok(ConsoleEnd::Pty(pty))
        }
    }
}

/// Creates or truncates a file; never waits for a reader.
///
/// # Errors
///
/// The host's, and [`io::ErrorKind::InvalidInput`] if it is no regular file.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    // The path may name something else than when it was checked.
    if is_file_or_null(&file.metadata()?) {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE))
    }
}

/// Whether it is a regular file or /dev/null: anything else may block a write.
fn is_file_or_null(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_file() || kind.is_char_device() && metadata.rdev() == DEV_NULL
}

/// Whether two paths name one file. /dev/null may be used twice.
fn are_one_file(first: &Path, second: &Path) -> bool {
    match (fs::metadata(first), fs::metadata(second)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => first == second,
        _ => false,
    }
}

/// The error for a pipe, a device or a directory.
pub(super) const NO_FILE: &str = "not a regular file";
/// The number of `/dev/null`: major 1, minor 3.
const DEV_NULL: u64 = 0x103;

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_pipe_without_a_reader_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(!is_file_or_null(&fs::metadata(&pipe).unwrap()));
        assert!(create(&pipe).is_err());
        // With a reader it can be opened, and is refused too.
        let _reader = File::options().read(true).write(true).open(&pipe).unwrap();
        let refused = create(&pipe).unwrap_err();
        assert_eq!(refused.to_string(), NO_FILE);
    }

    #[test]
    fn files_and_dev_null_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(create(&dir.path().join("new")).is_ok());
        assert!(create(Path::new("/dev/null")).is_ok());
        assert!(create(Path::new("/dev/zero")).is_err());
        assert!(create(dir.path()).is_err());
    }
}
