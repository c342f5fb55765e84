//! Where the bytes of an image come from: an open file or memory.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, FileTypeExt},
    },
};

use super::{error::ImageError, limits::Limits};

/// The bytes of a file: read on demand, or already in memory.
pub(crate) enum Backing {
    /// A regular file, and its length when it was opened.
    File { file: File, len_bytes: u64 },
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

impl Backing {
    /// Takes an open file, or gives it back. A pipe is read to its end at once, up to the limit.
    pub(crate) fn from_file(file: File, limits: &Limits) -> Result<Self, (File, ImageError)> {
        let metadata = match file.metadata() {
            Ok(metadata) => metadata,
            Err(source) => return Err((file, ImageError::Open { source })),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err((file, ImageError::Directory));
        }
        if kind.is_file() {
            return Ok(Self::File {
                file,
                len_bytes: metadata.len(),
            });
        }
        if kind.is_fifo() || kind.is_socket() {
            let bytes = read_stream(&file, limits.max_file_bytes);
            return bytes.map(Self::Bytes).map_err(|why| (file, why));
        }
        Err((file, ImageError::NotAFile))
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        match self {
            Self::File { len_bytes, .. } => *len_bytes,
            Self::Bytes(bytes) => to_u64(bytes.len()),
        }
    }

    /// Fills `buf` from `offset`. A range past the length that the file had first is an error.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(to_u64(buf.len()));
        if end.is_none_or(|end| end > self.len_bytes()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self {
            Self::File { file, .. } => file.read_exact_at(buf, offset),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let tail = bytes.get(start..).and_then(|tail| tail.get(..buf.len()));
                buf.copy_from_slice(tail.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Reads the first bytes, at most `N`.
    pub(crate) fn head<const N: usize>(&self) -> Result<Head<N>, ImageError> {
        let len = usize::try_from(self.len_bytes()).map_or(N, |len| len.min(N));
        let mut head = Head { bytes: [0; N], len };
        let start = head.bytes.get_mut(..len).unwrap_or_default();
        self.read(0, start)
            .map_err(|source| read_error(0, to_u64(len), source))?;
        Ok(head)
    }

    /// Reads a range into memory; the caller has checked its length.
    pub(crate) fn range(&self, offset: u64, len_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let no_memory = ImageError::NoMemory { len_bytes };
        let Ok(len) = usize::try_from(len_bytes) else {
            return Err(no_memory);
        };
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(len).is_err() {
            return Err(no_memory);
        }
        bytes.resize(len, 0);
        self.read(offset, &mut bytes)
            .map_err(|source| read_error(offset, len_bytes, source))?;
        Ok(bytes)
    }

    /// Returns the file, or `None` if the bytes are in memory.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File { file, .. } => Some(file.as_fd()),
            Self::Bytes(_) => None,
        }
    }
}

impl fmt::Debug for Backing {
    /// Shows lengths, not contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::File { .. } => "File",
            Self::Bytes(_) => "Bytes",
        };
        f.debug_struct(name)
            .field("len_bytes", &self.len_bytes())
            .finish_non_exhaustive()
    }
}

/// The first `N` bytes of a file, or all of a shorter one.
pub(crate) struct Head<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Head<N> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

pub(crate) fn read_error(offset: u64, len_bytes: u64, source: io::Error) -> ImageError {
    ImageError::Read {
        offset,
        len_bytes,
        source,
    }
}

fn read_stream(mut file: &File, limit_bytes: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let more = file
        .by_ref()
        .take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes);
    more.map_err(|source| read_error(to_u64(bytes.len()), 1, source))?;
    if to_u64(bytes.len()) > limit_bytes {
        return Err(ImageError::FileTooLarge { limit_bytes });
    }
    Ok(bytes)
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
