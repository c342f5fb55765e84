//! Short strings from a file, kept without allocation.

use core::fmt;

use crate::{ReadError, Source};

/// A string of a note, cut to [`Text::CAPACITY`] bytes. It may have any bytes except NUL.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Text {
    bytes: [u8; Self::CAPACITY],
    len: u8,
    is_cut: bool,
}

impl Text {
    /// The longest string that is not cut, in bytes; Xen itself keeps 15.
    pub const CAPACITY: usize = 64;

    /// Returns the bytes, without a NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    /// Returns the string, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }

    /// Tells whether the string in the file is longer.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Reads up to the first NUL, but never more than `size` bytes.
    pub(crate) fn read<S: Source + ?Sized>(
        source: &S,
        offset: u64,
        size: u32,
    ) -> Result<Self, ReadError> {
        // one more byte than is kept shows whether the string was cut
        let mut buf = [0; Self::CAPACITY + 1];
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(buf.len());
        let (wanted, _) = buf.split_at_mut(size);
        source.read_at(offset, wanted)?;
        Ok(Self::from_bytes(until_nul(wanted)))
    }

    pub(crate) fn from_bytes(string: &[u8]) -> Self {
        let mut text = Self {
            bytes: [0; Self::CAPACITY],
            len: 0,
            is_cut: string.len() > Self::CAPACITY,
        };
        for (to, from) in text.bytes.iter_mut().zip(string) {
            *to = *from;
            text.len = text.len.saturating_add(1);
        }
        text
    }
}

/// Returns the bytes before the first NUL, or all of them.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

impl fmt::Display for Text {
    /// Bytes that are not printable ASCII are escaped, so that a file cannot write to a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)?;
        f.write_str(if self.is_cut { "..." } else { "" })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        !self.is_cut && self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], size: u32) -> Text {
        Text::read(bytes, 0, size).expect("the bytes are there")
    }

    #[test]
    fn a_text_ends_at_its_nul_or_its_size() {
        assert_eq!(text(b"linux\0more", 10), "linux");
        assert_eq!(text(b"linuxmore", 5), "linux");
        assert_eq!(text(b"", 0), "");
    }

    #[test]
    fn a_text_equals_a_string_byte_for_byte_and_when_cut_none() {
        assert_ne!(text(b"linux", 5), "minix");
        let cut = text(&[b'a'; 80], 80);
        assert_ne!(cut, core::str::from_utf8(&[b'a'; 64]).expect("ASCII"));
        assert_ne!(cut, core::str::from_utf8(&[b'a'; 80]).expect("ASCII"));
    }

    #[test]
    fn a_text_is_cut_at_64_bytes_and_says_so() {
        assert!(!text(&[b'a'; 64], 64).is_cut());
        let long = text(&[b'a'; 80], 80);
        assert!(long.is_cut() && long.as_bytes() == [b'a'; 64]);
        assert!(!text(&[&[b'a'; 64][..], &[0]].concat(), 65).is_cut());
    }

    #[test]
    fn a_text_is_a_string_where_it_is_utf_8() {
        assert_eq!(text(b"linux", 5).as_str(), Some("linux"));
        assert_eq!(text(b"a\xff", 2).as_str(), None);
    }

    #[test]
    fn what_is_shown_is_printable() {
        extern crate std;
        use std::{format, string::ToString};
        assert_eq!(text(b"a\x1b[2J\xff", 6).to_string(), "a\\x1b[2J\\xff");
        assert_eq!(format!("{:?}", text(b"a\xff", 2)), "\"a\\xff\"");
    }
}
