//! Where the bytes of a file come from.

/// Bytes that can be read at an offset: a slice, or a file of the embedder.
///
/// The file is hostile and may change while it is read, so every value is read once and kept.
pub trait Source {
    /// Returns the length in bytes.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if any byte of the range is missing or cannot be read; `buf` is then
    /// unspecified.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;
}

/// A range of a [`Source`] could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("cannot read {len_bytes} bytes at file offset {offset:#x}")]
pub struct ReadError {
    /// Where the range begins, in bytes from the start of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
}

impl Source for [u8] {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buf.len()));
        let bytes = start.zip(end).and_then(|(start, end)| self.get(start..end));
        let bytes = bytes.ok_or(ReadError {
            offset,
            len_bytes: buf.len() as u64,
        })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// What is referred to.
impl<S: Source + ?Sized> Source for &S {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_at(offset, buf)
    }
}

/// The bytes of the vector.
#[cfg(feature = "std")]
impl Source for std::vec::Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.as_slice().len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.as_slice().read_at(offset, buf)
    }
}

/// An open file, read where it is asked for; its own offset does not move. A file whose length
/// cannot be told has none.
#[cfg(all(feature = "std", unix))]
impl Source for std::fs::File {
    fn len_bytes(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let read = std::os::unix::fs::FileExt::read_exact_at(self, buf, offset);
        read.map_err(|_| ReadError {
            offset,
            len_bytes: buf.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_read_up_to_its_last_byte_and_no_further() {
        let bytes: &[u8] = &[1, 2, 3, 4];
        let mut buf = [0; 2];
        assert_eq!(bytes.read_at(2, &mut buf), Ok(()));
        assert_eq!(buf, [3, 4]);
        for offset in [3, 4, 5, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let error = ReadError {
                offset,
                len_bytes: 2,
            };
            assert_eq!(bytes.read_at(offset, &mut buf), Err(error));
        }
    }

    #[test]
    fn nothing_can_be_read_at_the_end() {
        let bytes: &[u8] = &[1];
        assert_eq!(bytes.read_at(1, &mut []), Ok(()));
        assert!(bytes.read_at(2, &mut []).is_err());
    }
}
