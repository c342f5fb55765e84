//! The file or block device behind a disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl},
    libc,
};
use pvh_abi::GuestRange;
use pvh_blkif::Area;
use pvh_kvm::{GuestRam, TransferError};

/// The file or block device behind a disk, open and locked for as long as this lives.
///
/// Its size is the one that it had when it was opened. A file that grows is not used further than
/// that; one that is cut short gives errors for what is gone.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    is_read_only: bool,
    cache: CacheMode,
    /// The size in which areas can be discarded, if they can.
    discard_bytes: Option<u32>,
    /// A flush failed: the host may have dropped what it could not write.
    has_lost_writes: AtomicBool,
    /// The user has been told of a failed request; of a refused one; of a failed connection.
    told: [AtomicBool; 3],
}

/// How an image is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImageOptions {
    /// The guest may not write. The file is opened and locked for reading only.
    pub is_read_only: bool,
    /// The file's bytes are the disk's, whatever they look like. Otherwise images of other formats
    /// are refused.
    pub is_raw: bool,
    /// The use of the host's page cache.
    pub cache: CacheMode,
    /// The guest is not offered to discard areas of the disk.
    pub keeps_discarded: bool,
}

/// The use of the host's page cache for a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum CacheMode {
    /// The cache is used; a flush of the guest writes it out.
    #[default]
    Writeback,
    /// The cache is not used (`O_DIRECT`).
    None,
    /// The cache is used, and a flush of the guest does nothing: for disks that are thrown away.
    Unsafe,
}

/// What the user is told of, once in a run for each disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Topic {
    Failure,
    Refusal,
    Connection,
}

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be opened.
    #[error("cannot open the disk for {}", if *.is_read_only { "reading" } else { "writing" })]
    Open {
        /// Whether it was to be opened for reading only.
        is_read_only: bool,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe or another device.
    #[error("neither a regular file nor a block device")]
    Kind,
    /// Another program uses it, or another disk.
    #[error("the disk is in use: by another program or another disk, or it is mounted")]
    InUse,
    /// It cannot be locked.
    #[error("the disk cannot be locked against other programs")]
    Lock(#[source] io::Error),
    /// It is an image of another format.
    #[error("this is a {format} image, and disks are raw images")]
    Format {
        /// The name of the format.
        format: &'static str,
    },
    /// Its size is no disk's.
    #[error("{len_bytes} bytes are not a whole number of 512-byte sectors above 0")]
    Size {
        /// The size.
        len_bytes: u64,
    },
    /// It cannot be used without the page cache.
    #[error("direct I/O is not possible here: {}", if *.has_large_blocks { "the blocks are larger than 512 bytes" } else { "the file system does not support it" })]
    Direct {
        /// Whether the size of the blocks is the reason.
        has_large_blocks: bool,
    },
    /// It cannot be read.
    #[error("cannot read the disk")]
    Read(#[source] io::Error),
}

/// Why a request of the guest failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum IoError {
    #[error("cannot read")]
    Read(#[source] TransferError),
    #[error("cannot write")]
    Write(#[source] TransferError),
    #[error("cannot write the host's cache out")]
    Flush(#[source] io::Error),
    #[error("an earlier flush failed, so nothing more is written")]
    Lost,
    #[error("cannot discard an area")]
    Discard(#[source] io::Error),
    #[error("the storage cannot discard areas")]
    NoDiscard,
}

impl Image {
    /// Opens an image, locks it, and checks that it can be a disk.
    ///
    /// # Errors
    ///
    /// [`ImageError`]; nothing has been written.
    pub fn open(path: &Path, options: &ImageOptions) -> Result<Self, ImageError> {
        Self::from_file(open(path, options.is_read_only)?, path, options)
    }

    /// Takes an open file as an image, locks it, and checks that it can be a disk. `path` is its
    /// name in messages. A file that is not read only has to be open for writing, too.
    ///
    /// # Errors
    ///
    /// [`ImageError`]; nothing has been written.
    pub fn from_file(
        mut file: File,
        path: &Path,
        options: &ImageOptions,
    ) -> Result<Self, ImageError> {
        let is_read_only = options.is_read_only;
        let kind = file.metadata().map_err(ImageError::Read)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ImageError::Kind);
        }
        lock(&file, is_read_only)?;
        // A block device's metadata have no size.
        let len_bytes = file.seek(SeekFrom::End(0)).map_err(ImageError::Read)?;
        if !options.is_raw
            && let Some(format) = format(&file).map_err(ImageError::Read)?
        {
            return Err(ImageError::Format { format });
        }
        if len_bytes == 0 || !len_bytes.is_multiple_of(512) {
            return Err(ImageError::Size { len_bytes });
        }
        if options.cache == CacheMode::None {
            leave_cache(&file, len_bytes)?;
        }
        let can_discard = !options.keeps_discarded && !is_read_only && can_discard(&file);
        Ok(Self {
            path: path.to_owned(),
            discard_bytes: can_discard.then(|| block_bytes(&file)),
            file,
            len_bytes,
            is_read_only,
            cache: options.cache,
            has_lost_writes: AtomicBool::new(false),
            told: [const { AtomicBool::new(false) }; 3],
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(super) const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The size in which areas can be discarded, if they can.
    pub(super) const fn discard_bytes(&self) -> Option<u32> {
        self.discard_bytes
    }

    /// Tells whether the user has yet to be told, and that this happens now.
    pub(super) fn is_news(&self, topic: Topic) -> bool {
        let told = self.told.get(topic as usize);
        told.is_some_and(|told| !told.swap(true, SeqCst))
    }

    /// Reads into the guest's memory.
    pub(super) fn read(
        &self,
        ram: &GuestRam,
        offset: u64,
        to: &[GuestRange],
    ) -> Result<(), IoError> {
        let read = ram.read_from_file(self.file.as_fd(), offset, to);
        read.map_err(IoError::Read)
    }

    /// Writes from the guest's memory.
    pub(super) fn write(
        &self,
        ram: &GuestRam,
        offset: u64,
        from: &[GuestRange],
    ) -> Result<(), IoError> {
        self.check_writes()?;
        let written = ram.write_to_file(self.file.as_fd(), offset, from);
        written.map_err(IoError::Write)
    }

    /// Makes every write before durable, unless the user gave that up.
    ///
    /// After a failure the kernel takes what it could not write for written. So this disk takes no
    /// more writes then: a later flush must not say that all is well.
    pub(super) fn flush(&self) -> Result<(), IoError> {
        self.check_writes()?;
        if self.cache == CacheMode::Unsafe || self.is_read_only {
            return Ok(());
        }
        self.file.sync_data().map_err(|source| {
            self.has_lost_writes.store(true, SeqCst);
            IoError::Flush(source)
        })
    }

    /// Gives an area inside the disk back to the host: it reads as zeros, and needs no room. One call
    /// of the host does it, however large the area; the disk's thread alone waits for that.
    pub(super) fn discard(&self, area: Area) -> Result<(), IoError> {
        self.check_writes()?;
        let signed = |bytes: u64| i64::try_from(bytes).map_err(|_| IoError::NoDiscard);
        let (offset, len) = (signed(area.offset)?, signed(area.len_bytes)?);
        match fallocate(&self.file, HOLE, offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP) => Err(IoError::NoDiscard),
            Err(error) => Err(IoError::Discard(error.into())),
        }
    }

    fn check_writes(&self) -> Result<(), IoError> {
        match self.has_lost_writes.load(SeqCst) {
            true => Err(IoError::Lost),
            false => Ok(()),
        }
    }
}

/// Opens a file without waiting for anything, a block device for this program alone.
fn open(path: &Path, is_read_only: bool) -> Result<File, ImageError> {
    let is_block = fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
    let exclusive = if is_block && !is_read_only {
        libc::O_EXCL
    } else {
        0
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(!is_read_only)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | exclusive)
        .open(path);
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::ResourceBusy => ImageError::InUse,
        io::ErrorKind::IsADirectory => ImageError::Kind,
        _ => ImageError::Open {
            is_read_only,
            source,
        },
    })
}

/// Locks the whole file: shared to read it, alone to write it. The lock belongs to this opening of
/// the file, so a second `--disk` of the same file is refused as well.
fn lock(file: &File, is_read_only: bool) -> Result<(), ImageError> {
    let kind = if is_read_only {
        libc::F_RDLCK
    } else {
        libc::F_WRLCK
    };
    let whole = libc::flock {
        l_type: i16::try_from(kind).unwrap_or(0),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(ImageError::InUse),
        Err(error) => Err(ImageError::Lock(error.into())),
    }
}

/// Returns the name of the format that the file begins like, if it is a known one.
fn format(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; 72];
    let mut len = 0;
    while let Some(rest) = head.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, len as u64) {
            Ok(0) => break,
            Ok(read) => len = len.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let found = FORMATS.iter().find(|(_, at, magic)| {
        let there = head.get(*at..).unwrap_or_default();
        there.starts_with(magic)
    });
    Ok(found.map(|(name, ..)| *name))
}

/// Tells whether the storage may have holes, by one behind the last byte that a file can have. It
/// changes nothing. For a block device the answer is EINVAL, and its first discard tells.
fn can_discard(file: &File) -> bool {
    let tried = fallocate(file, HOLE, i64::MAX.saturating_sub(4096), 1);
    matches!(tried, Ok(()) | Err(Errno::EINVAL | Errno::EFBIG))
}

/// The size of the blocks of a file's storage, as far as a guest can be told: 512 bytes to 1 MiB.
fn block_bytes(file: &File) -> u32 {
    let size = file.metadata().map_or(4096, |found| found.blksize());
    match u32::try_from(size) {
        Ok(size) if size.is_power_of_two() => size.clamp(512, 1 << 20),
        _ => 4096,
    }
}

/// Has the file used without the page cache, in pieces of 512 bytes.
fn leave_cache(file: &File, len_bytes: u64) -> Result<(), ImageError> {
    let no_direct = ImageError::Direct {
        has_large_blocks: false,
    };
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|error| ImageError::Read(error.into()))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_DIRECT;
    fcntl(file, FcntlArg::F_SETFL(flags)).map_err(|_| no_direct)?;
    // One sector at the odd places of file and memory, as a guest may want it.
    let mut memory = vec![0; 8192];
    let to_page = memory.as_ptr().align_offset(4096);
    let start = to_page.saturating_add(512);
    let sector = memory.get_mut(start..start.saturating_add(512));
    let offset = if len_bytes > 512 { 512 } else { 0 };
    match file.read_at(sector.unwrap_or_default(), offset) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(ImageError::Direct {
            has_large_blocks: true,
        }),
        Err(error) => Err(ImageError::Read(error)),
    }
}

/// A hole that leaves the size of the file as it is.
const HOLE: FallocateFlags =
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE);

/// Formats by name, and the bytes at an offset that tell them.
const FORMATS: [(&str, usize, &[u8]); 7] = [
    ("qcow2", 0, b"QFI\xFB"),
    ("QED", 0, b"QED\0"),
    ("VMDK", 0, b"KDMV"),
    ("VMDK", 0, b"# Disk DescriptorFile"),
    ("VHDX", 0, b"vhdxfile"),
    ("VHD", 0, b"conectix"),
    ("VDI", 64, b"\x7F\x10\xDA\xBE"),
];

#[cfg(test)]
mod tests;
