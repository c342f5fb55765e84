//! The disks of a run, and their names in the guest.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use pvh_blkif::virtual_device;
use pvh_config::DiskArgument;

use super::image::{Image, ImageError};

/// The disks of a run. They stay open, and locked, when the guest reboots.
#[derive(Debug, Default)]
pub(crate) struct Disks(pub(crate) Vec<NamedDisk>);

/// A disk with its name in the guest.
#[derive(Clone, Debug)]
pub(crate) struct NamedDisk {
    pub(crate) image: Arc<Image>,
    /// `xvda` for example.
    pub(crate) name: String,
    /// The number that stands for the name in the store.
    pub(crate) number: u32,
}

/// Why the disks of a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// More disks than there are threads for.
    #[error("--disk is given {count} times: a guest has at most {DISKS_MAX} disks")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// Two disks have one name.
    #[error("--disk: two disks are named {name}")]
    SameName {
        /// The name.
        name: String,
    },
    /// An image cannot be used.
    #[error("{}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ImageError,
    },
}

impl Disks {
    /// Opens and locks the images, and gives each disk its name: the one that was asked for, or the
    /// first of xvda, xvdb and so on that is free.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub(crate) fn open(arguments: &[DiskArgument]) -> Result<Self, DiskError> {
        let count = arguments.len();
        if count > DISKS_MAX {
            return Err(DiskError::TooMany { count });
        }
        let mut taken = BTreeSet::new();
        for (name, number) in arguments.iter().filter_map(|disk| disk.device.as_ref()) {
            if !taken.insert(*number) {
                let name = name.clone();
                return Err(DiskError::SameName { name });
            }
        }
        let mut free = ('a'..='z').filter_map(|letter| {
            let name = format!("xvd{letter}");
            let number = virtual_device(&name).ok()?;
            (!taken.contains(&number)).then_some((name, number))
        });
        let disks = arguments.iter().map(|argument| {
            // There are more letters than disks.
            let device = argument.device.clone().or_else(|| free.next());
            let (name, number) = device.ok_or(DiskError::TooMany { count })?;
            let image = Image::open(argument).map_err(|source| DiskError::Image {
                path: argument.path.clone(),
                source,
            })?;
            let image = Arc::new(image);
            Ok(NamedDisk {
                image,
                name,
                number,
            })
        });
        Ok(Self(disks.collect::<Result<_, _>>()?))
    }
}

/// Each disk costs a thread, two descriptors, and a device in the store.
const DISKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use pvh_config::CacheMode;

    use super::*;

    fn names(wanted: &[Option<&str>]) -> Result<Vec<(String, u32)>, DiskError> {
        let dir = tempfile::tempdir().unwrap();
        let arguments = wanted.iter().enumerate().map(|(index, name)| {
            let path = dir.path().join(index.to_string());
            fs::write(&path, [0; 512]).unwrap();
            let device = name.map(|name| (name.to_owned(), virtual_device(name).unwrap()));
            DiskArgument {
                path,
                is_read_only: false,
                is_raw: false,
                cache: CacheMode::Writeback,
                device,
            }
        });
        let arguments: Vec<_> = arguments.collect();
        let disks = Disks::open(&arguments)?.0.into_iter();
        Ok(disks.map(|disk| (disk.name, disk.number)).collect())
    }

    #[test]
    fn names_go_by_the_alphabet_around_those_that_were_asked_for() {
        let found = names(&[None, Some("xvdb"), None, None]).unwrap();
        let wanted = [
            ("xvda", 0xCA00),
            ("xvdb", 0xCA10),
            ("xvdc", 0xCA20),
            ("xvdd", 0xCA30),
        ];
        assert_eq!(
            found,
            wanted.map(|(name, number)| (name.to_owned(), number))
        );
    }

    #[test]
    fn a_name_given_twice_and_too_many_disks_are_refused() {
        let twice = names(&[Some("xvdb"), Some("xvdb")]).unwrap_err();
        assert_eq!(twice.to_string(), "--disk: two disks are named xvdb");
        assert!(names(&[None; 16]).is_ok());
        let many = names(&[None; 17]).unwrap_err();
        assert!(matches!(many, DiskError::TooMany { count: 17 }), "{many}");
    }
}
