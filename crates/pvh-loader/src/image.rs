//! Kernel images: the format of a file, its segments, and their bytes.

use std::{fs::File, os::fd::BorrowedFd, path::Path};

pub use pvh_elfnote::{Class, PhysReloc, ProgramHeader, XenNotes};

pub use self::{
    codec::{Codec, UnpackError},
    error::ImageError,
    format::Format,
    limits::Limits,
    lookalike::Lookalike,
    refused::{ImageSource, Refused},
};

pub(crate) mod bzimage;
mod codec;
pub(crate) mod elf;
mod error;
mod format;
mod limits;
mod lookalike;
mod refused;
pub(crate) mod source;
pub(crate) mod unpack;

use elf::Headers;
use source::{Backing, read_error};
use unpack::Unpacked;

/// An opened kernel with a PVH entry point.
///
/// Its headers and notes are checked and copied once, when it is opened. The segments of a plain
/// ELF file are read on demand. A packed kernel is unpacked once, into memory.
#[derive(Debug)]
pub struct Image {
    elf: Backing,
    format: Format,
    headers: Headers,
    segments: Vec<ProgramHeader>,
    entry: u32,
}

impl Image {
    /// Opens the kernel file at `path`.
    ///
    /// # Errors
    ///
    /// [`ImageError`] says what the file is instead of a kernel, or what is wrong with it and
    /// where.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let file = File::open(path).map_err(|source| ImageError::Open { source })?;
        Self::from_file(file, &Limits::default())
    }

    /// Takes an open file; a pipe is read to its end.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_file(file: File, limits: &Limits) -> Result<Self, ImageError> {
        Self::from_source(ImageSource::File(file), limits).map_err(|refused| refused.why)
    }

    /// Takes a kernel that is in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        Self::from_bytes_within(bytes, &Limits::default())
    }

    /// Takes a kernel that is in memory, with the caller's limits.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes_within(bytes: Vec<u8>, limits: &Limits) -> Result<Self, ImageError> {
        Self::from_source(ImageSource::Bytes(bytes), limits).map_err(|refused| refused.why)
    }

    /// Takes a file or bytes, and gives them back if they are refused: for a program that also
    /// boots other formats.
    ///
    /// A regular file is given back open, at the position it had. A pipe that was read is given back
    /// as its bytes. Bytes of a packed kernel are kept until it is unpacked: at most
    /// [`Limits::max_file_bytes`] of host memory beside the unpacked kernel.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the error as of [`open`](Self::open), and the source.
    pub fn from_source(source: ImageSource, limits: &Limits) -> Result<Self, Box<Refused>> {
        let backing = source.open(limits)?;
        let found = match Found::new(&backing, limits) {
            Ok(found) => found,
            Err(why) => return Err(Refused::new(backing, why)),
        };
        Ok(Self {
            segments: found.headers.loads().collect(),
            elf: found.unpacked.elf.unwrap_or(backing),
            format: found.unpacked.format,
            headers: found.headers,
            entry: found.entry,
        })
    }

    /// Returns the PVH entry point, a guest-physical address. [`plan`](Self::plan) checks that it
    /// lies in a segment.
    #[must_use]
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// Returns where the image may be moved to, or `None` if it must stay where it was linked.
    #[must_use]
    pub fn relocation(&self) -> Option<PhysReloc> {
        self.headers.notes.reloc
    }

    /// Returns the loadable segments (PT_LOAD with any of R, W, X), in table order; there is at
    /// least one.
    #[must_use]
    pub fn segments(&self) -> &[ProgramHeader] {
        &self.segments
    }

    /// Returns the Xen notes.
    #[must_use]
    pub fn notes(&self) -> &XenNotes {
        &self.headers.notes
    }

    /// Returns the width of the ELF's fields, which says nothing about its code.
    #[must_use]
    pub fn class(&self) -> Class {
        self.headers.header.class
    }

    /// Returns the file format of the kernel.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the length of the ELF in bytes, unpacked.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.elf.len_bytes()
    }

    /// Reads `buf.len()` bytes of the ELF from `offset`.
    ///
    /// # Errors
    ///
    /// [`ImageError::Read`] if the range runs past the end of the ELF, or the file has become
    /// shorter since it was opened.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let len_bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.elf
            .read(offset, buf)
            .map_err(|source| read_error(offset, len_bytes, source))
    }

    /// Returns the bytes of the ELF, or `None` for a plain ELF file, which is not in memory.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.elf {
            Backing::Bytes(bytes) => Some(bytes),
            Backing::File { .. } => None,
        }
    }

    /// Returns the file that holds the plain ELF and the offset of the ELF in it, or `None` if the
    /// bytes are in memory.
    #[must_use]
    pub fn file_range(&self) -> Option<(BorrowedFd<'_>, u64)> {
        self.elf.file().map(|file| (file, 0))
    }
}

/// What a source holds.
struct Found {
    unpacked: Unpacked,
    headers: Headers,
    entry: u32,
}

impl Found {
    fn new(source: &Backing, limits: &Limits) -> Result<Self, ImageError> {
        let unpacked = unpack::unpack(source, limits)?;
        let headers = Headers::read(unpacked.elf.as_ref().unwrap_or(source))?;
        Ok(Self {
            entry: headers.entry()?,
            unpacked,
            headers,
        })
    }
}
