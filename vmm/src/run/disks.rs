//! Opens the disks of a run, and says what to do about one that cannot be used.

use std::{
    io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem},
    path::Path,
    sync::Arc,
};

use pvh_backends::{CacheMode, Disk, Image, ImageError, ImageOptions};
use pvh_config::{DiskArgument, disk_names};

use super::error::RunError;

/// Opens and locks the images, and gives each disk its name in the guest.
///
/// # Errors
///
/// [`RunError::DiskNames`], [`RunError::Disk`].
pub(super) fn open(disks: &[DiskArgument]) -> Result<Vec<Disk>, RunError> {
    let names = disk_names(disks).map_err(RunError::DiskNames)?;
    let disks = disks.iter().zip(names).map(|(disk, (name, number))| {
        let options = ImageOptions {
            is_read_only: disk.is_read_only,
            is_raw: disk.is_raw,
            keeps_discarded: !disk.has_discard,
            cache: match disk.cache {
                pvh_config::CacheMode::Writeback => CacheMode::Writeback,
                pvh_config::CacheMode::None => CacheMode::None,
                pvh_config::CacheMode::Unsafe => CacheMode::Unsafe,
            },
        };
        let image = Image::open(&disk.path, &options);
        let image = Arc::new(image.map_err(|source| RunError::Disk {
            path: disk.path.clone(),
            source,
        })?);
        Ok(Disk {
            image,
            name,
            number,
        })
    });
    disks.collect()
}

/// What the user can do about the file at `path`.
pub(super) fn fix(path: &Path, error: &ImageError) -> Option<String> {
    let path = path.display();
    Some(match error {
        ImageError::Open {
            is_read_only: false,
            source,
        } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            "use --disk FILE,ro, or change its permissions".to_owned()
        }
        ImageError::Format { .. } => format!(
            "convert it: qemu-img convert -O raw {path} {path}.raw; or use format=raw, if the guest is to see \
             these bytes"
        ),
        ImageError::Size { .. } => format!("truncate -s %512 {path} makes it one"),
        ImageError::InUse => "end that program, or use a copy".to_owned(),
        ImageError::Lock(_) => "use a file system with locks".to_owned(),
        ImageError::Direct { .. } => "use cache=writeback".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;
    use crate::exit::sentence;

    /// The error of a file that begins like this and is this long, and what to do, in one line.
    fn line(begin: &[u8], len: usize) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut bytes = begin.to_vec();
        bytes.resize(len, 0);
        fs::write(&path, bytes).unwrap();
        let error = Image::open(&path, &ImageOptions::default()).unwrap_err();
        let line = sentence(&error, fix(&path, &error));
        (line, path.display().to_string())
    }

    #[test]
    fn images_of_other_formats_name_the_command_that_converts_them() {
        let (line, path) = line(b"QFI\xfb", 1024);
        assert!(line.contains("this is a qcow2 image"), "{line}");
        let command = format!("qemu-img convert -O raw {path} {path}.raw");
        assert!(
            line.contains(&command) && line.contains("format=raw"),
            "{line}"
        );
    }

    #[test]
    fn a_size_that_no_disk_has_names_the_command_that_changes_it() {
        let (line, path) = line(b"", 513);
        let command = format!("truncate -s %512 {path}");
        assert!(
            line.contains("513 bytes") && line.contains(&command),
            "{line}"
        );
    }

    #[test]
    fn other_refusals_name_an_option_or_say_what_to_end() {
        let denied = ImageError::Open {
            is_read_only: false,
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let direct = ImageError::Direct {
            has_large_blocks: false,
        };
        for (error, word) in [
            (denied, ",ro"),
            (direct, "cache=writeback"),
            (ImageError::InUse, "use a copy"),
        ] {
            let fix = fix(Path::new("disk"), &error).unwrap();
            assert!(fix.contains(word), "{fix}");
        }
    }
}
