//! Finds the Xen notes of a whole image.

use crate::{
    ElfError, Header, MAX_NOTES, NoEntry, NoteWalk, Origin, ProgramHeader, ReadError, Source, Text,
    XenNotes, features::MAX_FEATURE_BYTES,
};

/// The reason why the notes of an image forbid a boot or cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// The image requires a feature that Xen does not know.
    #[error(
        "Xen note FEATURES at file offset {offset:#x} requires the feature \"{name}\", which Xen does not know"
    )]
    UnknownRequired {
        /// Where the note begins in the file.
        offset: u64,
        /// The name of the feature.
        name: Text,
    },
    /// A section header cannot be read, and no segment has a Xen note.
    #[error("cannot search the sections for notes")]
    Sections(#[source] ElfError),
    /// The source failed.
    #[error("cannot read the notes")]
    Unreadable(#[source] ReadError),
}

/// The reason why [`scan`] found no usable entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The file is not a readable ELF file.
    #[error("not a usable ELF file")]
    Elf(#[source] ElfError),
    /// The notes forbid a boot.
    #[error("the notes of the file cannot be used")]
    Notes(#[source] NoteError),
    /// There is no usable entry note.
    #[error("no PVH entry point")]
    NoEntry(#[source] NoEntry),
}

/// Finds the notes of an image, given all its program headers in table order.
///
/// Searches every segment of notes; searches the sections of notes only if no segment has a Xen
/// note. At an invalid record the search goes on with the next segment, and keeps what it has
/// found. It reads at most [`MAX_NOTES`] records in all.
///
/// # Errors
///
/// [`NoteError`] if the image must not be booted whatever its entry is, or if `source` fails. A
/// missing entry is not an error here: see [`XenNotes::require_entry`].
pub fn find_notes<S: Source + ?Sized>(
    source: &S,
    header: &Header,
    segments: impl IntoIterator<Item = ProgramHeader>,
) -> Result<XenNotes, NoteError> {
    let mut finder = Finder {
        source,
        notes: XenNotes::new(),
        notes_left: MAX_NOTES,
        feature_bytes_left: MAX_FEATURE_BYTES,
    };
    for segment in segments.into_iter().filter(ProgramHeader::is_note) {
        finder.walk(segment.offset, segment.file_size)?;
    }
    if finder.notes.count > 0 {
        return Ok(finder.notes);
    }
    // index 0 is the null section
    for section in header.section_headers(source).skip(1) {
        let section = section.map_err(NoteError::Sections)?;
        if section.is_note() {
            finder.notes.origin = Origin::Sections;
            finder.walk(section.offset, section.size)?;
        }
    }
    Ok(finder.notes)
}

/// Reads headers and notes of a whole file in memory.
///
/// # Errors
///
/// [`ScanError`] if it is not an ELF file, if its notes forbid a boot, or if it has no entry. The
/// chain of sources says where and why.
pub fn scan(file: &[u8]) -> Result<XenNotes, ScanError> {
    let header = Header::read(file).map_err(ScanError::Elf)?;
    let mut failed = None;
    let segments = header.segments(file).map_while(|segment| {
        let segment = segment.map_err(|error| failed = Some(error));
        segment.ok()
    });
    let notes = find_notes(file, &header, segments).map_err(ScanError::Notes)?;
    match (failed, notes.require_entry()) {
        (Some(error), _) => Err(ScanError::Elf(error)),
        (None, Err(reason)) => Err(ScanError::NoEntry(reason)),
        (None, Ok(_)) => Ok(notes),
    }
}

struct Finder<'s, S: ?Sized> {
    source: &'s S,
    notes: XenNotes,
    notes_left: u32,
    feature_bytes_left: u32,
}

impl<S: Source + ?Sized> Finder<'_, S> {
    fn walk(&mut self, offset: u64, len_bytes: u64) -> Result<(), NoteError> {
        let mut walk = NoteWalk::bounded(self.source, offset, len_bytes, self.notes_left);
        for item in &mut walk {
            self.notes
                .take(self.source, item, &mut self.feature_bytes_left)?;
        }
        self.notes_left = walk.notes_left();
        Ok(())
    }
}
