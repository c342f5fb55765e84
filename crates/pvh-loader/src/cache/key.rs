//! The key of an entry: the identity of the packed file.

use std::{
    fs::File,
    hash::{DefaultHasher, Hasher},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    time::{Duration, SystemTime},
};

/// The identity of a packed file, found without reading all of it. Every write changes its times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Key {
    device: u64,
    inode: u64,
    len_bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    ends: u64,
}

impl Key {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let len_bytes = found.len();
        let mut hasher = DefaultHasher::new();
        for start in [0, len_bytes.saturating_sub(END_BYTES)] {
            let len = len_bytes.saturating_sub(start).min(END_BYTES);
            let mut end = vec![0; usize::try_from(len).unwrap_or(0)];
            file.read_exact_at(&mut end, start)?;
            hasher.write(&end);
        }
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            len_bytes,
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            ends: hasher.finish(),
        })
    }

    /// Tells whether a change from `now` on would show in the times, whose steps are 2 seconds at
    /// most.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let seconds = self.modified.0.max(self.changed.0);
        let Ok(seconds) = u64::try_from(seconds) else {
            return false;
        };
        let settled = Duration::from_secs(seconds.saturating_add(STEP_SECONDS));
        SystemTime::UNIX_EPOCH
            .checked_add(settled)
            .is_some_and(|settled| settled < now)
    }

    /// Returns the key as text, for the name of the entry.
    pub(super) fn text(&self) -> String {
        let Self {
            device,
            inode,
            len_bytes,
            modified,
            changed,
            ends,
        } = self;
        format!(
            "{device:x}-{inode:x}-{len_bytes:x}-{:x}.{:x}-{:x}.{:x}-{ends:016x}",
            modified.0, modified.1, changed.0, changed.1
        )
    }
}

/// How many bytes of either end are digested.
const END_BYTES: u64 = 4096;

/// More than the 2 seconds of FAT's times.
const STEP_SECONDS: u64 = 3;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn key(bytes: &[u8]) -> Key {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Key::of(&file).unwrap()
    }

    #[test]
    fn every_part_is_in_the_text() {
        let base = key(&[1; 10_000]);
        assert_eq!(base.text(), base.clone().text());
        type Change = fn(&mut Key);
        let changes: [Change; 8] = [
            |key| key.device ^= 1,
            |key| key.inode ^= 1,
            |key| key.len_bytes ^= 1,
            |key| key.modified.0 ^= 1,
            |key| key.modified.1 ^= 1,
            |key| key.changed.0 ^= 1,
            |key| key.changed.1 ^= 1,
            |key| key.ends ^= 1,
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(base.text(), other.text());
        }
    }

    #[test]
    fn both_ends_are_digested() {
        let mut bytes = vec![1; 10_000];
        let base = key(&bytes).ends;
        bytes[4095] = 2;
        assert_ne!(key(&bytes).ends, base);
        bytes[4095] = 1;
        bytes[9999] = 2;
        assert_ne!(key(&bytes).ends, base);
        assert_ne!(key(&[1]).ends, base);
        key(&[]); // and an empty file has a key too
    }

    #[test]
    fn a_file_that_was_just_written_is_not_settled() {
        let young = key(b"x");
        let now = SystemTime::now();
        assert!(!young.is_settled(now));
        assert!(young.is_settled(now.checked_add(Duration::from_secs(5)).unwrap()));
    }
}
