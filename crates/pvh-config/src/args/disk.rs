//! The value of `--disk`: a file and what follows it.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use pvh_blkif::{VdevError, virtual_device};

/// `FILE[,ro][,dev=NAME][,format=raw][,cache=MODE][,discard=on|off]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskArgument {
    /// The file or block device.
    pub path: PathBuf,
    /// The guest may not write.
    pub is_read_only: bool,
    /// The user says that the bytes of the file are those of the disk, whatever they look like.
    pub is_raw: bool,
    /// The use of the host's page cache for it.
    pub cache: CacheMode,
    /// What the guest discards may become holes in the file.
    pub has_discard: bool,
    /// The name and the number of the guest's device.
    pub device: Option<(String, u32)>,
}

/// The use of the host's page cache for a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheMode {
    /// The cache is used; a flush of the guest writes it out.
    Writeback,
    /// The cache is not used.
    None,
    /// The cache is used, and a flush of the guest does nothing.
    Unsafe,
}

/// Why a value of `--disk` is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskArgumentError {
    /// It names no file.
    #[error(
        "a disk needs a file: FILE[,ro][,dev=xvdb][,format=raw][,cache=none|writeback|unsafe][,discard=on|off]"
    )]
    NoFile,
    /// The format is not supported.
    #[error(
        "format={format} is not supported; convert it: qemu-img convert -O raw {path} {path}.raw"
    )]
    Format {
        /// The format that was asked for.
        format: String,
        /// The file, for the command that converts it.
        path: String,
    },
    /// There is no such option.
    #[error(
        "'{text}' is not ro, dev=NAME, format=raw, cache=none|writeback|unsafe or discard=on|off (a comma in a file name is written ,,)"
    )]
    Unknown {
        /// The option.
        text: String,
    },
    /// No device has this name.
    #[error(transparent)]
    Device(VdevError),
}

impl DiskArgument {
    /// Reads a value of `--disk`.
    ///
    /// # Errors
    ///
    /// [`DiskArgumentError`].
    pub fn parse(text: OsString) -> Result<Self, DiskArgumentError> {
        let mut parts = split(text.as_bytes()).into_iter();
        let path = parts.next().filter(|path| !path.is_empty());
        let path = OsString::from_vec(path.ok_or(DiskArgumentError::NoFile)?);
        let mut disk = Self {
            path: path.into(),
            is_read_only: false,
            is_raw: false,
            cache: CacheMode::Writeback,
            has_discard: true,
            device: None,
        };
        parts.try_for_each(|part| disk.set(&OsStr::from_bytes(&part).to_string_lossy()))?;
        Ok(disk)
    }

    fn set(&mut self, text: &str) -> Result<(), DiskArgumentError> {
        match text.split_once('=') {
            None if text == "ro" => self.is_read_only = true,
            Some(("format", "raw")) => self.is_raw = true,
            Some(("format", format)) => {
                let format = format.to_owned();
                let path = self.path.display().to_string();
                return Err(DiskArgumentError::Format { format, path });
            }
            Some(("cache", "writeback")) => self.cache = CacheMode::Writeback,
            Some(("cache", "none")) => self.cache = CacheMode::None,
            Some(("cache", "unsafe")) => self.cache = CacheMode::Unsafe,
            Some(("discard", "on")) => self.has_discard = true,
            Some(("discard", "off")) => self.has_discard = false,
            Some(("dev", name)) => {
                let number = virtual_device(name).map_err(DiskArgumentError::Device)?;
                self.device = Some((name.to_owned(), number));
            }
            _ => {
                let text = text.to_owned();
                return Err(DiskArgumentError::Unknown { text });
            }
        }
        Ok(())
    }
}

/// Splits at single commas; two commas are one of the text.
pub(super) fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b',' && bytes.next_if_eq(&b',').is_none() {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(byte);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DiskArgument, DiskArgumentError> {
        DiskArgument::parse(text.into())
    }

    #[test]
    fn a_file_alone_is_a_writable_disk_in_the_page_cache() {
        let disk = parse("a=b/disk.img").unwrap();
        assert_eq!(disk.path, PathBuf::from("a=b/disk.img"));
        assert!(!disk.is_read_only && !disk.is_raw && disk.device.is_none());
        assert_eq!(disk.cache, CacheMode::Writeback);
        assert!(disk.has_discard);
    }

    #[test]
    fn options_follow_in_any_order() {
        let disk = parse("d,dev=xvdb,cache=none,ro,format=raw").unwrap();
        assert!(disk.is_read_only && disk.is_raw);
        assert_eq!(disk.cache, CacheMode::None);
        assert_eq!(disk.device, Some(("xvdb".to_owned(), 0xCA10)));
        assert_eq!(parse("d,cache=unsafe").unwrap().cache, CacheMode::Unsafe);
        assert!(!parse("d,discard=off").unwrap().has_discard);
        assert!(parse("d,discard=off,discard=on").unwrap().has_discard);
    }

    #[test]
    fn two_commas_are_one_of_the_file_name() {
        let disk = parse("a,,b,,,ro").unwrap();
        assert_eq!(disk.path, PathBuf::from("a,b,"));
        assert!(disk.is_read_only);
    }

    #[test]
    fn wrong_values_say_what_to_write() {
        for (text, word) in [
            ("", "a disk needs a file"),
            (",ro", "a disk needs a file"),
            ("d,rw", "'rw' is not ro"),
            ("d,", "'' is not ro"),
            ("d,ro=1", "'ro=1' is not"),
            ("d,cache=fast", "'cache=fast' is not"),
            ("d,dev=sda", "xvda"),
            ("d,format=qcow2", "qemu-img convert -O raw d d.raw"),
        ] {
            let refused = parse(text).unwrap_err().to_string();
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }
}
