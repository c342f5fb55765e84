//! The modules that a guest gets besides its kernel, an initrd for example.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

/// A module: its bytes, and its command line.
#[derive(Debug)]
pub struct ModuleSource {
    data: ModuleData,
    /// Its command line, without a NUL.
    pub cmdline: Option<Vec<u8>>,
}

/// Where the bytes of a module come from.
#[derive(Debug)]
pub(crate) enum ModuleData {
    /// In a file of this length.
    File { file: File, len_bytes: u64 },
    /// In memory.
    Bytes(Vec<u8>),
}

/// Why a module cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The file cannot be opened, or its length cannot be read.
    #[error("the module cannot be opened")]
    Open(#[source] io::Error),
    /// The file is a directory, a pipe or a device, so its length is not known.
    #[error("the module is not a regular file")]
    NotRegular,
    /// The file has bytes, but the file system says its length is 0 (procfs does).
    #[error(
        "the module's file system says it has 0 bytes, but it has some: copy it to a regular file"
    )]
    UnknownLength,
}

impl ModuleSource {
    /// Opens the file at `path`. Its bytes are read at commit, one buffer at a time.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Open`] if it cannot be opened, [`ModuleError::NotRegular`] for anything but a
    /// regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModuleError> {
        // This comes before opening: opening a pipe would wait for a writer.
        let metadata = std::fs::metadata(&path).map_err(ModuleError::Open)?;
        if !metadata.is_file() {
            return Err(ModuleError::NotRegular);
        }
        Self::from_file(File::open(path).map_err(ModuleError::Open)?)
    }

    /// Takes an open file. Its bytes are read at commit.
    ///
    /// # Errors
    ///
    /// As [`ModuleSource::open`].
    pub fn from_file(file: File) -> Result<Self, ModuleError> {
        let metadata = file.metadata().map_err(ModuleError::Open)?;
        if !metadata.is_file() {
            return Err(ModuleError::NotRegular);
        }
        let len_bytes = metadata.len();
        if len_bytes == 0 && file.read_at(&mut [0], 0).map_err(ModuleError::Open)? > 0 {
            return Err(ModuleError::UnknownLength);
        }
        let data = ModuleData::File { file, len_bytes };
        Ok(Self {
            data,
            cmdline: None,
        })
    }

    /// Takes bytes in memory.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            data: ModuleData::Bytes(bytes),
            cmdline: None,
        }
    }

    /// Gives the module a command line.
    #[must_use]
    pub fn with_cmdline(mut self, cmdline: impl Into<Vec<u8>>) -> Self {
        self.cmdline = Some(cmdline.into());
        self
    }

    /// Returns the length of the module; for a file, its length when it was opened.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        match &self.data {
            ModuleData::File { len_bytes, .. } => *len_bytes,
            ModuleData::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Returns the open file of the module, or `None` when its bytes are in memory.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match self.data() {
            ModuleData::File { file, .. } => Some(file.as_fd()),
            ModuleData::Bytes(_) => None,
        }
    }

    pub(crate) const fn data(&self) -> &ModuleData {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_a_missing_file_are_no_modules() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            ModuleSource::open(dir.path()),
            Err(ModuleError::NotRegular)
        ));
        let missing = dir.path().join("missing");
        assert!(matches!(
            ModuleSource::open(missing),
            Err(ModuleError::Open(_))
        ));
        let handle = File::open(dir.path()).unwrap();
        assert!(matches!(
            ModuleSource::from_file(handle),
            Err(ModuleError::NotRegular)
        ));
    }

    #[test]
    fn a_file_and_bytes_have_their_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initrd");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(ModuleSource::open(&path).unwrap().len_bytes(), 5);
        assert_eq!(ModuleSource::from_bytes(vec![0; 3]).len_bytes(), 3);
    }
}
