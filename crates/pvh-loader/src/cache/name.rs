//! Names of the cache's files: a format tag, the key or a random number, and a checksum of both.

use flate2::Crc;

/// What a file of this cache is, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// An entry.
    Entry,
    /// A file that a process is writing, or was writing when it ended.
    Temporary,
}

/// Returns the name of the entry with this key.
pub(super) fn entry(key: &str) -> String {
    with_checksum(key, ENTRY)
}

/// Returns the name of a temporary file.
pub(super) fn temporary(number: u64) -> String {
    with_checksum(&format!("{number:016x}"), TEMPORARY)
}

/// Returns what the file `name` is, or `None` if this cache did not name it.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let of = |suffix, kind| {
        let (stem, checksum) = name.strip_suffix(suffix)?.rsplit_once('-')?;
        let is_ours = stem.starts_with(TAG) && checksum == format!("{:08x}", crc(stem.as_bytes()));
        is_ours.then_some(kind)
    };
    of(ENTRY, Kind::Entry).or_else(|| of(TEMPORARY, Kind::Temporary))
}

/// Tells whether this cache gave a file its name.
pub(super) fn is_ours(name: &str) -> bool {
    kind(name).is_some()
}

/// The CRC-32 of `bytes`.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn with_checksum(text: &str, suffix: &str) -> String {
    let stem = format!("{TAG}{text}");
    format!("{stem}-{:08x}{suffix}", crc(stem.as_bytes()))
}

/// The format of the entries; another format gets another tag.
const TAG: &str = "pvh2-";

const ENTRY: &str = ".elf";
const TEMPORARY: &str = ".tmp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_the_tag_and_the_right_checksum_are_entries() {
        let (entry, temporary) = (entry("1-2-3"), temporary(7));
        assert_eq!(kind(&entry), Some(Kind::Entry));
        assert_eq!(kind(&temporary), Some(Kind::Temporary));
        for name in [&entry, &temporary] {
            for at in 0..name.len() {
                let mut other = name.clone().into_bytes();
                other[at] ^= 1;
                let other = String::from_utf8(other).unwrap();
                assert_eq!(kind(&other), None, "{other}");
            }
        }
        for name in [
            "vmlinux.elf",
            "pvh2-.elf",
            "pvh2-1-2-3.elf",
            "unfinished-1",
            "",
        ] {
            assert_eq!(kind(name), None, "{name}");
        }
    }
}
