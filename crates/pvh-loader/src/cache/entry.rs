//! Entries: an ELF, then a trailer with checksums by which damage is found.

use std::{
    fs::{File, FileTimes, Metadata},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, SystemTime},
};

use flate2::Crc;

use super::{
    file::{self, Unnamed},
    folder::is_ours,
    name,
};
use crate::image::{Image, Limits};

/// What is found at the name of an entry.
#[derive(Debug)]
pub(super) enum Found {
    /// The kernel, as it was written.
    Kernel(Box<Image>),
    /// An entry of this cache that has been damaged.
    Damaged,
    /// Nothing.
    Nothing,
    /// Something that this cache did not make: a link, a FIFO, a folder, or a file of another user.
    Foreign,
}

/// Opens the entry at `path` and checks that it is what was written.
///
/// The check is cheap, because the file is mapped and not read: its modification time must be the
/// one in the trailer (every write changes it), the headers and samples of the contents must have
/// their checksums.
pub(super) fn open(path: &Path) -> Found {
    let (file, metadata) = match file::open(path) {
        Ok(found) => found,
        Err(why) if why.kind() == ErrorKind::NotFound => return Found::Nothing,
        Err(_) => return Found::Foreign,
    };
    if !is_ours(&metadata) {
        return Found::Foreign;
    }
    let used = file.try_clone();
    let Some(image) = checked(path, file, &metadata) else {
        return Found::Damaged;
    };
    // The age of an entry counts from its last use. If the time cannot be set, it only looks older.
    let _ = used.and_then(|file| file.set_times(FileTimes::new().set_accessed(SystemTime::now())));
    Found::Kernel(Box::new(image))
}

/// Writes an entry that will be named `path`, and opens it for reading only.
pub(super) fn write(dir: &Path, path: &Path, image: &Image) -> io::Result<(Unnamed, File)> {
    let bytes = image.bytes().unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Whole, even seconds: every file system can hold them.
    let seconds = now.unwrap_or_default().as_secs() & !1;
    let trailer = Trailer {
        len_bytes: bytes.len() as u64,
        modified: i64::try_from(seconds).unwrap_or_default(),
        headers: headers(image),
        samples: samples(bytes.len() as u64, |offset, buf| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let from = bytes.get(start..).and_then(|tail| tail.get(..buf.len()));
            buf.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        })?,
        name: name_crc(path),
    };
    file::write(dir, |file| {
        file.write_all(bytes)?;
        file.write_all(&trailer.to_bytes())?;
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        file.set_modified(modified.ok_or(ErrorKind::InvalidInput)?)
    })
}

fn checked(path: &Path, file: File, metadata: &Metadata) -> Option<Image> {
    if metadata.mtime_nsec() != 0 {
        return None;
    }
    let len_bytes = metadata.len().checked_sub(Trailer::BYTES as u64)?;
    let mut bytes = [0; Trailer::BYTES];
    file.read_exact_at(&mut bytes, len_bytes).ok()?;
    let samples = samples(len_bytes, |offset, buf| file.read_exact_at(buf, offset));
    let image = Image::from_file(file, &Limits::default()).ok()?;
    let wanted = Trailer {
        len_bytes,
        modified: metadata.mtime(),
        headers: headers(&image),
        samples: samples.ok()?,
        name: name_crc(path),
    };
    (bytes == wanted.to_bytes()).then_some(image)
}

/// The end of an entry.
struct Trailer {
    len_bytes: u64,
    /// The modification time of the file, in whole seconds since 1970.
    modified: i64,
    headers: u32,
    samples: u32,
    name: u32,
}

impl Trailer {
    const BYTES: usize = 16 + 8 + 8 + 4 * 4;

    fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut all = Vec::with_capacity(Self::BYTES);
        all.extend(MARK);
        all.extend(self.len_bytes.to_le_bytes());
        all.extend(self.modified.to_le_bytes());
        for crc in [self.headers, self.samples, self.name] {
            all.extend(crc.to_le_bytes());
        }
        let crc = name::crc(&all);
        all.extend(crc.to_le_bytes());
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(&all);
        bytes
    }
}

/// The checksum of everything that the loader takes from headers and notes.
fn headers(image: &Image) -> u32 {
    let (entry, segments) = (image.entry(), image.segments());
    name::crc(format!("{entry:x} {:?} {segments:?}", image.notes()).as_bytes())
}

/// The checksum of samples: the first 64 KiB, then 4 KiB of each MiB, and the last 4 KiB.
fn samples(len_bytes: u64, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<u32> {
    let last = len_bytes.saturating_sub(SAMPLE_BYTES);
    let mut buffer = vec![0; 64 << 10];
    let mut crc = Crc::new();
    let starts = (1..).map(|mib: u64| mib << 20);
    let starts = starts.take_while(|&start| start < last).chain([last]);
    let rest = starts.map(|start| (start, SAMPLE_BYTES));
    for (start, len) in [(0, buffer.len() as u64)].into_iter().chain(rest) {
        let len = usize::try_from(len.min(len_bytes.saturating_sub(start))).unwrap_or_default();
        let (sample, _) = buffer.split_at_mut(len);
        read(start, sample)?;
        crc.update(sample);
    }
    Ok(crc.sum())
}

fn name_crc(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default();
    name::crc(name.as_encoded_bytes())
}

/// Begins a trailer.
const MARK: [u8; 16] = *b"\0pvh unpacked 2\0";

const SAMPLE_BYTES: u64 = 4096;
