//! The names of the guest's disks.

use std::collections::BTreeSet;

use pvh_blkif::virtual_device;

use crate::args::DiskArgument;

/// Why the disks of a run cannot have names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskNamesError {
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
}

/// Gives each disk its name and its number: those that were asked for, or the first of xvda, xvdb
/// and so on that is free.
///
/// # Errors
///
/// [`DiskNamesError`].
pub fn disk_names(disks: &[DiskArgument]) -> Result<Vec<(String, u32)>, DiskNamesError> {
    let count = disks.len();
    if count > DISKS_MAX {
        return Err(DiskNamesError::TooMany { count });
    }
    let mut taken = BTreeSet::new();
    for (name, number) in disks.iter().filter_map(|disk| disk.device.as_ref()) {
        if !taken.insert(*number) {
            let name = name.clone();
            return Err(DiskNamesError::SameName { name });
        }
    }
    let mut free = ('a'..='z').filter_map(|letter| {
        let name = format!("xvd{letter}");
        let number = virtual_device(&name).ok()?;
        (!taken.contains(&number)).then_some((name, number))
    });
    let names = disks.iter().map(|disk| {
        // There are more letters than disks.
        let name = disk.device.clone().or_else(|| free.next());
        name.ok_or(DiskNamesError::TooMany { count })
    });
    names.collect()
}

/// Each disk costs a thread, two descriptors, and a device in the store.
const DISKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[Option<&str>]) -> Result<Vec<(String, u32)>, DiskNamesError> {
        let disks = wanted.iter().map(|name| {
            let name = name.map(|name| format!(",dev={name}")).unwrap_or_default();
            DiskArgument::parse(format!("disk.img{name}").into()).unwrap()
        });
        disk_names(&disks.collect::<Vec<_>>())
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
        assert!(
            matches!(many, DiskNamesError::TooMany { count: 17 }),
            "{many}"
        );
    }
}
