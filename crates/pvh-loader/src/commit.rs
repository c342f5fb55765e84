//! Does what a plan says.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
};

use pvh_entry::EntryState;
use pvh_memory::GuestMemory;

pub use self::error::CommitError;
use self::writer::{Origin, Writer};
use crate::{
    Image,
    layout::pages,
    module::{ModuleData, ModuleSource},
    plan::{Boot, LoadPlan, Write, WriteKind},
};

mod error;
mod patches;
mod writer;

/// How the bytes of files get into guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// They are read and written.
    Copy,
    /// Whole pages are mapped, private and copy-on-write ([`GuestMemory::map_file`]); the rest is copied, and
    /// everything where the memory cannot map, or the bytes are not in a file as they are.
    ///
    /// This is no snapshot: a page that the guest has not written to follows later changes of the file. When the file is
    /// cut short, the pages beyond its end are lost, written ones too: an access from this process raises SIGBUS, one
    /// of the guest's ends the run of its vCPU. Take it for files that nobody changes in place; to replace one
    /// by renaming is harmless.
    Map,
}

/// A guest that is loaded and can be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The registers the boot vCPU starts with.
    pub entry: EntryState,
    /// How many bytes of guest memory were written, zeros among them.
    pub written_bytes: u64,
    /// How many bytes were mapped from files instead.
    pub mapped_bytes: u64,
}

/// Writes everything `plan` says into `memory`; [`commit_by`] can map it instead.
///
/// # Errors
///
/// As [`commit_by`].
pub fn commit<M: GuestMemory + ?Sized>(
    plan: &LoadPlan,
    image: &Image,
    boot: &Boot,
    memory: &M,
) -> Result<Loaded, CommitError> {
    commit_by(Method::Copy, plan, image, boot, memory)
}

/// Puts everything `plan` says into `memory`.
///
/// Everything that can be known beforehand is checked before the first write: that the plan belongs to
/// `image` and `boot` and does not overlap, that `memory` has RAM everywhere, that no file has changed
/// its length. What is copied of a file goes through a buffer of 256 KiB, whatever its length. Bytes outside
/// the plan's writes are not touched.
///
/// # Errors
///
/// [`CommitError`]; what can still fail after the first write is a file that changes or an I/O error
/// while it is read, and a guest memory that fails where it said it would not.
pub fn commit_by<M: GuestMemory + ?Sized>(
    method: Method,
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
    patches::check(plan, image, boot)?;
    let mut writer = Writer::new(memory, method);
    for write in &plan.writes {
        match write.kind {
            WriteKind::Segment { index, file_offset } => {
                writer.segment(write, image, index, file_offset)?;
            }
            WriteKind::Bss { .. } | WriteKind::ModuleTail { .. } => writer.zero(write)?,
            WriteKind::Module { index } => match boot.modules.get(index).map(ModuleSource::data) {
                Some(ModuleData::Bytes(bytes)) => writer.put(write, 0, bytes)?,
                Some(ModuleData::File { file, .. }) => {
                    let origin = Origin {
                        file: file.as_fd(),
                        offset: 0,
                    };
                    let read = |done, buf: &mut [u8]| read_module(index, file, done, buf);
                    writer.file(write, Some(origin), read)?;
                }
                None => return Err(mismatch(write)), // refused above
            },
            WriteKind::StartInfo => writer.put(write, 0, &start_info)?,
        }
    }
    for patch in &plan.patches {
        writer.patch(patch)?;
    }
    Ok(Loaded {
        entry,
        written_bytes: writer.written_bytes,
        mapped_bytes: writer.mapped_bytes,
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
