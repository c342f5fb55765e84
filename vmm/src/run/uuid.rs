//! The UUIDs of domains.

use std::{fs::File, os::unix::fs::FileExt};

/// Makes UUIDs. Its file is opened once: after a reboot, the thread that builds opens nothing.
#[derive(Debug)]
pub(super) struct Uuids(Option<File>);

impl Uuids {
    /// Opens the kernel's file.
    pub(super) fn open() -> Self {
        Self(File::open("/proc/sys/kernel/random/uuid").ok())
    }

    /// A UUID of the kernel's making; all zero where it makes none.
    pub(super) fn next(&self) -> [u8; 16] {
        let mut text = [0; 36];
        // Each read from the beginning is another UUID.
        let read = self.0.as_ref().map(|file| file.read_exact_at(&mut text, 0));
        match read {
            Some(Ok(())) => parse(&text),
            _ => [0; 16],
        }
    }
}

fn parse(text: &[u8]) -> [u8; 16] {
    let digits: Vec<u8> = text.iter().copied().filter_map(hex_digit).collect();
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = *pair;
        *byte = (high << 4) | low;
    }
    uuid
}

fn hex_digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_gets_another_uuid_from_one_file() {
        let uuids = Uuids::open();
        let (first, second) = (uuids.next(), uuids.next());
        assert_ne!(first, second);
        for uuid in [first, second] {
            // RFC 4122: version 4, made at random.
            assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (4, 2), "{uuid:x?}");
        }
        assert_eq!(Uuids(None).next(), [0; 16]);
    }
}
