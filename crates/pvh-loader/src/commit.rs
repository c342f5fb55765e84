//! Does what a plan says.

use std::{fs::File, io, os::unix::fs::FileExt};

use pvh_abi::Gpa;
use pvh_entry::{EntryError, EntryState};
use pvh_memory::{GuestMemory, MemoryError};
use pvh_start_info::BuildError;

use crate::{
    Image, ImageError,
    layout::GuestRange,
    plan::{Boot, LoadPlan, ModuleData, ModuleSource, Write, WriteKind, pages},
};

/// A guest that is loaded and can be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The registers the boot vCPU starts with.
    pub entry: EntryState,
    /// How many bytes of guest memory were written.
    pub written_bytes: u64,
}

/// Why a plan was not carried out.
///
/// Only [`CommitError::ReadImage`], [`CommitError::ReadModule`] and [`CommitError::Memory`] can come after
/// the first write; [`CommitError::memory_untouched`] tells. Then throw the guest memory away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The plan was made for another image or another boot.
    #[error("the plan is not for this image and boot: {what} ({range})")]
    Mismatch {
        /// The write that does not match.
        what: WriteKind,
        /// Where it would go.
        range: GuestRange,
    },
    /// The plan has no start info, or not as many modules as the boot.
    #[error("the plan is not for this image and boot: it is not complete")]
    Incomplete,
    /// Two writes of the plan overlap.
    #[error("the plan writes twice at {at}: {first} and {second}")]
    Overlap {
        /// The first byte of both.
        at: Gpa,
        /// The write that begins lower.
        first: WriteKind,
        /// The other.
        second: WriteKind,
    },
    /// The memory map says RAM where the guest memory has none.
    #[error("{what}: {range} is not all RAM of this guest memory")]
    NotRam {
        /// What would go there.
        what: WriteKind,
        /// Where.
        range: GuestRange,
    },
    /// The start info cannot be built.
    #[error("the start info cannot be built")]
    StartInfo(#[source] BuildError),
    /// There is no entry state for the plan.
    #[error("the guest cannot be entered")]
    Entry(#[source] EntryError),
    /// A module's file is not as long any more as it was when it was opened.
    #[error("module {index} was {expected_bytes} bytes long, and is {found_bytes} bytes now")]
    ModuleChanged {
        /// Which module.
        index: usize,
        /// Its length when it was opened.
        expected_bytes: u64,
        /// Its length now.
        found_bytes: u64,
    },
    /// A module's file cannot be looked at.
    #[error("module {index} cannot be looked at")]
    Module {
        /// Which module.
        index: usize,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The image's file is shorter now than its headers say.
    #[error("the image has become shorter")]
    ImageChanged(#[source] ImageError),
    /// The image could not be read, though it could be a moment ago.
    #[error("segment {index} cannot be read")]
    ReadImage {
        /// Which segment.
        index: usize,
        /// The reason.
        #[source]
        source: ImageError,
    },
    /// A module could not be read, though its length was right a moment ago.
    #[error("module {index} cannot be read at offset {offset:#x}")]
    ReadModule {
        /// Which module.
        index: usize,
        /// Where in its file.
        offset: u64,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The guest memory refused a write, though it had said that RAM is there.
    #[error("{what}: the guest memory refuses it")]
    Memory {
        /// What was being written.
        what: WriteKind,
        /// The reason.
        #[source]
        source: MemoryError,
    },
}

impl CommitError {
    /// Tells whether nothing has been written.
    #[must_use]
    pub const fn memory_untouched(&self) -> bool {
        !matches!(
            self,
            Self::ReadImage { .. } | Self::ReadModule { .. } | Self::Memory { .. }
        )
    }
}

/// Writes everything `plan` says into `memory`.
///
/// Everything that can be known beforehand is checked before the first write: that the plan belongs to
/// `image` and `boot` and does not overlap, that `memory` has RAM everywhere, that no file has changed
/// its length. Files are read through a buffer of 256 KiB, whatever their length. Bytes outside the
/// plan's writes are not touched.
///
/// # Errors
///
/// [`CommitError`]; what can still fail after the first write is a file that changes or an I/O error
/// while it is read, and a guest memory that fails where it said it would not.
pub fn commit<M: GuestMemory + ?Sized>(
    plan: &LoadPlan,
    image: &Image,
    boot: &Boot,
    memory: &M,
) -> Result<Loaded, CommitError> {
    check_sources(plan, image, boot)?;
    check_places(plan, memory)?;
    let start_info = start_info_bytes(plan, boot)?;
    let entry = EntryState::pvh(plan.entry, plan.start_info).map_err(CommitError::Entry)?;
    check_lengths(plan, image, boot)?;
    let mut writer = Writer {
        memory,
        buffer: Vec::new(),
        written_bytes: 0,
    };
    for write in &plan.writes {
        match write.kind {
            WriteKind::Segment { index, file_offset } => {
                writer.segment(write, image, index, file_offset)?;
            }
            WriteKind::Bss { .. } | WriteKind::ModuleTail { .. } => writer.zero(write)?,
            WriteKind::Module { index } => match boot.modules.get(index).map(ModuleSource::data) {
                Some(ModuleData::Bytes(bytes)) => writer.put(write, 0, bytes)?,
                Some(ModuleData::File { file, .. }) => {
                    writer.copy(write, |done, buf| read_module(index, file, done, buf))?;
                }
                None => return Err(mismatch(write)), // refused above
            },
            WriteKind::StartInfo => writer.put(write, 0, &start_info)?,
        }
    }
    Ok(Loaded {
        entry,
        written_bytes: writer.written_bytes,
    })
}

/// Checks that every write is what `image` and `boot` have.
fn check_sources(plan: &LoadPlan, image: &Image, boot: &Boot) -> Result<(), CommitError> {
    for write in &plan.writes {
        let len_bytes = write.range.len_bytes;
        let matches = match write.kind {
            WriteKind::Segment { index, file_offset } => {
                let segment = image.segments().get(index);
                segment.is_some_and(|s| s.offset == file_offset && s.file_size == len_bytes)
            }
            WriteKind::Bss { index } => image.segments().get(index).is_some(),
            WriteKind::Module { index } | WriteKind::ModuleTail { index } => {
                let whole = matches!(write.kind, WriteKind::Module { .. });
                let module = boot.modules.get(index).map(ModuleSource::len_bytes);
                let range = plan.modules.get(index);
                module.is_some_and(|len| !whole || len == len_bytes)
                    && range.is_some_and(|range| !whole || *range == write.range)
            }
            WriteKind::StartInfo => write.range.start == plan.start_info,
        };
        if !matches {
            return Err(mismatch(write));
        }
    }
    if plan.modules.len() != boot.modules.len() {
        return Err(CommitError::Incomplete);
    }
    Ok(())
}

/// Checks that no two writes overlap, and that there is RAM for each.
fn check_places<M: GuestMemory + ?Sized>(plan: &LoadPlan, memory: &M) -> Result<(), CommitError> {
    let mut by_place: Vec<&Write> = plan.writes.iter().collect();
    by_place.sort_unstable_by_key(|write| write.range);
    for pair in by_place.windows(2) {
        if let [first, second] = pair
            && first.range.overlaps(second.range)
        {
            return Err(CommitError::Overlap {
                at: second.range.start,
                first: first.kind,
                second: second.kind,
            });
        }
    }
    for &&Write { kind, range } in &by_place {
        if !memory.is_ram(range.start, range.len_bytes) {
            return Err(CommitError::NotRam { what: kind, range });
        }
    }
    Ok(())
}

/// Checks that no file has changed its length since it was opened.
fn check_lengths(plan: &LoadPlan, image: &Image, boot: &Boot) -> Result<(), CommitError> {
    let ends = plan.writes.iter().filter_map(|write| match write.kind {
        WriteKind::Segment { file_offset, .. } => file_offset.checked_add(write.range.len_bytes),
        _ => None,
    });
    if let Some(last) = ends.max().and_then(|end| end.checked_sub(1)) {
        let probe = image.read_at(last, &mut [0]);
        probe.map_err(CommitError::ImageChanged)?;
    }
    for (index, module) in boot.modules.iter().enumerate() {
        let ModuleData::File { file, len_bytes } = module.data() else {
            continue;
        };
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| CommitError::Module { index, source })?;
        if metadata.len() != *len_bytes {
            return Err(CommitError::ModuleChanged {
                index,
                expected_bytes: *len_bytes,
                found_bytes: metadata.len(),
            });
        }
    }
    Ok(())
}

/// Builds the start info, with zeros to the end of its last page.
fn start_info_bytes(plan: &LoadPlan, boot: &Boot) -> Result<Vec<u8>, CommitError> {
    let table = boot.module_table(plan.modules.iter().copied());
    let builder = boot.builder(&table);
    let size_bytes = builder.size_bytes().map_err(CommitError::StartInfo)?;
    let len_bytes = pages(size_bytes);
    let is_start_info = |write: &&Write| matches!(write.kind, WriteKind::StartInfo);
    let write = plan.writes.iter().find(is_start_info);
    let write = write.ok_or(CommitError::Incomplete)?;
    let len = len_bytes.filter(|&len| len == write.range.len_bytes);
    let len = len.and_then(|len| usize::try_from(len).ok());
    let mut bytes = vec![0; len.ok_or(mismatch(write))?];
    let written = builder.write(plan.start_info, &mut bytes);
    written.map_err(CommitError::StartInfo)?;
    Ok(bytes)
}

fn read_module(index: usize, file: &File, offset: u64, buf: &mut [u8]) -> Result<(), CommitError> {
    let read = file.read_exact_at(buf, offset);
    read.map_err(|source| CommitError::ReadModule {
        index,
        offset,
        source,
    })
}

const fn mismatch(write: &Write) -> CommitError {
    CommitError::Mismatch {
        what: write.kind,
        range: write.range,
    }
}

/// The one place that writes.
struct Writer<'a, M: ?Sized> {
    memory: &'a M,
    /// Empty until a file is read.
    buffer: Vec<u8>,
    written_bytes: u64,
}

impl<M: GuestMemory + ?Sized> Writer<'_, M> {
    fn segment(
        &mut self,
        write: &Write,
        image: &Image,
        index: usize,
        file_offset: u64,
    ) -> Result<(), CommitError> {
        let unpacked = image.bytes().and_then(|bytes| {
            let start = usize::try_from(file_offset).ok()?;
            let len = usize::try_from(write.range.len_bytes).ok()?;
            bytes.get(start..start.checked_add(len)?)
        });
        if let Some(bytes) = unpacked {
            return self.put(write, 0, bytes);
        }
        self.copy(write, |done, buf| {
            let read = image.read_at(file_offset.saturating_add(done), buf);
            read.map_err(|source| CommitError::ReadImage { index, source })
        })
    }

    /// Fills the range of `write` with what `read` gives, a buffer at a time; `read` is told how far
    /// it has come.
    fn copy(
        &mut self,
        write: &Write,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES, 0);
        let mut done = 0_u64;
        while let Some(left) = write.range.len_bytes.checked_sub(done).filter(|&n| n > 0) {
            let step = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            let (piece, _) = buffer.split_at_mut(step);
            read(done, piece)?;
            self.put(write, done, piece)?;
            done = done.saturating_add(piece.len() as u64);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Writes `bytes` at `offset` in the range of `write`.
    fn put(&mut self, write: &Write, offset: u64, bytes: &[u8]) -> Result<(), CommitError> {
        let what = write.kind;
        let at = write.range.start.checked_add(offset);
        let at = at.ok_or(mismatch(write))?; // a range of RAM does not wrap
        let written = self.memory.write(at, bytes);
        written.map_err(|source| CommitError::Memory { what, source })?;
        self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn zero(&mut self, write: &Write) -> Result<(), CommitError> {
        let Write { kind: what, range } = *write;
        let zeroed = self.memory.zero(range.start, range.len_bytes);
        zeroed.map_err(|source| CommitError::Memory { what, source })?;
        self.written_bytes = self.written_bytes.saturating_add(range.len_bytes);
        Ok(())
    }
}

/// How much of a file is in our memory at a time.
const BUFFER_BYTES: usize = 256 << 10;
