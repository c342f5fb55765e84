//! Kernel images: what a file is, where its segments lie, and their bytes.

use std::{fs::File, os::fd::BorrowedFd, path::Path};

pub use pvh_elfnote::{Class, PhysReloc, ProgramHeader, XenNotes};

pub use self::{
    codec::{Codec, UnpackError},
    error::ImageError,
    format::Format,
    limits::Limits,
};

pub(crate) mod bzimage;
mod codec;
pub(crate) mod elf;
mod error;
mod format;
mod limits;
mod lookalike;
pub(crate) mod source;
pub(crate) mod unpack;

use elf::Headers;
use source::{Backing, read_error};
use unpack::Unpacked;

/// An opened kernel that has a PVH entry point: checked headers in our memory, and a way to its segments' bytes.
///
/// A plain ELF file stays where it is: its headers and notes are read once, at [`open`](Self::open), and never
/// again, its segments when they are asked for. Anything packed is unpacked once, into memory.
#[derive(Debug)]
pub struct Image {
    unpacked: Unpacked,
    headers: Headers,
    segments: Vec<ProgramHeader>,
    entry: u32,
}

impl Image {
    /// Opens the kernel file at `path`.
    ///
    /// # Errors
    ///
    /// [`ImageError`] says what the file is instead, or what is wrong with it and where.
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
        Self::new(Backing::from_file(file, limits)?, limits)
    }

    /// Takes a kernel that is in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        Self::from_bytes_within(bytes, &Limits::default())
    }

    /// Takes a kernel that is in memory, with bounds of the caller's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes_within(bytes: Vec<u8>, limits: &Limits) -> Result<Self, ImageError> {
        Self::new(Backing::Bytes(bytes), limits)
    }

    fn new(backing: Backing, limits: &Limits) -> Result<Self, ImageError> {
        let unpacked = unpack::unpack(backing, limits)?;
        let headers = Headers::read(&unpacked.elf)?;
        let entry = headers.entry()?;
        let segments = headers.loads().collect();
        Ok(Self {
            unpacked,
            headers,
            segments,
            entry,
        })
    }

    /// Returns the PVH entry point, a guest-physical address. Nothing says yet that it lies in a segment.
    #[must_use]
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// Returns what the image says about being moved, or `None` when it must stay where it asks to be.
    #[must_use]
    pub fn relocation(&self) -> Option<PhysReloc> {
        self.headers.notes.reloc
    }

    /// Returns the loadable segments (PT_LOAD with any of R, W, X), in table order; there is at least one.
    #[must_use]
    pub fn segments(&self) -> &[ProgramHeader] {
        &self.segments
    }

    /// Returns the Xen notes.
    #[must_use]
    pub fn notes(&self) -> &XenNotes {
        &self.headers.notes
    }

    /// Returns whether the ELF is a 32-bit or a 64-bit one; it says nothing about the code in it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.headers.header.class
    }

    /// Returns in what the kernel came.
    #[must_use]
    pub fn format(&self) -> Format {
        self.unpacked.format
    }

    /// Returns the length of the ELF in bytes, unpacked.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.unpacked.elf.len_bytes()
    }

    /// Reads `buf.len()` bytes of the ELF from `offset`.
    ///
    /// # Errors
    ///
    /// [`ImageError::Read`] when the ELF has not so many, or its file has become shorter since it was opened.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let len_bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.unpacked
            .elf
            .read(offset, buf)
            .map_err(|source| read_error(offset, len_bytes, source))
    }

    /// Returns the ELF's bytes when they are in memory, which they are for all but a plain ELF file.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.unpacked.elf {
            Backing::Bytes(bytes) => Some(bytes),
            Backing::File { .. } => None,
        }
    }

    /// Returns the file that holds the ELF as it is, and the offset where the ELF begins in it, or `None` when
    /// the bytes are in memory.
    #[must_use]
    pub fn file_range(&self) -> Option<(BorrowedFd<'_>, u64)> {
        self.unpacked.elf.file().map(|file| (file, 0))
    }
}
