//! Note records, and the walk over them.

use core::fmt;

use pvh_abi::elfnote::{NOTE_ALIGN, NoteHeader, XenNoteType};
use zerocopy::{FromZeros, IntoBytes};

use crate::{ReadError, Source, Text};

/// The most notes that are read in one file, over all its segments and sections; the number of
/// libelf.
pub const MAX_NOTES: u32 = 65_536;

const HEADER_BYTES: u64 = size_of::<NoteHeader>() as u64;
const XEN_NAME: [u8; 4] = *b"Xen\0";

/// One note record that lies completely inside its area. Offsets are from the start of the file.
///
/// Name and descriptor stay in the file: [`name`](Self::name), [`number`](Self::number) and similar
/// methods read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Note {
    /// Where the record begins.
    pub offset: u64,
    /// The type, whose meaning depends on the owner.
    pub kind: u32,
    /// Tells whether the owner is "Xen".
    ///
    /// As in libelf, the name is a NUL-terminated string, whatever length `namesz` gives. But here
    /// the NUL must lie in the name field: its `namesz` bytes and their padding to 4. So "Xen" with
    /// `namesz` 3 and a zero as padding is Xen's; with another byte as padding, or with `namesz` 0,
    /// it is not.
    pub is_xen: bool,
    /// Length of the name in bytes, padding excluded.
    pub name_size: u32,
    /// Where the descriptor begins.
    pub desc_offset: u64,
    /// Its length in bytes, padding excluded.
    pub desc_size: u32,
}

impl Note {
    /// Returns the type if this is a Xen note.
    #[must_use]
    pub fn xen_kind(&self) -> Option<XenNoteType> {
        self.is_xen.then_some(XenNoteType(self.kind))
    }

    /// Reads the owner's name, up to its NUL or its end.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the source fails.
    pub fn name<S: Source + ?Sized>(&self, source: &S) -> Result<Text, ReadError> {
        let start = self.offset.saturating_add(HEADER_BYTES);
        Text::read(source, start, self.name_size)
    }

    /// Reads the descriptor as a string, up to its NUL or its end; many notes have no NUL.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the source fails.
    pub fn text<S: Source + ?Sized>(&self, source: &S) -> Result<Text, ReadError> {
        Text::read(source, self.desc_offset, self.desc_size)
    }

    /// Reads the descriptor as a number of 1, 2, 4 or 8 bytes.
    ///
    /// # Errors
    ///
    /// [`FaultReason::DescSize`] for any other size, for which libelf would read 0;
    /// [`FaultReason::Unreadable`] if the source fails.
    pub fn number<S: Source + ?Sized>(&self, source: &S) -> Result<u64, NoteFault> {
        let mut bytes = [0; 8];
        let len = match self.desc_size {
            1 => 1,
            2 => 2,
            4 => 4,
            8 => 8,
            size => return Err(self.fault(FaultReason::DescSize { size })),
        };
        let (low, _) = bytes.split_at_mut(len);
        let read = source.read_at(self.desc_offset, low);
        read.map_err(|error| self.fault(FaultReason::Unreadable(error)))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads 32-bit word `index` of the descriptor; `None` if the descriptor is too short for it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the source fails.
    pub fn word<S: Source + ?Sized>(
        &self,
        source: &S,
        index: u32,
    ) -> Result<Option<u32>, ReadError> {
        let start = u64::from(index).saturating_mul(4);
        if start.saturating_add(4) > u64::from(self.desc_size) {
            return Ok(None);
        }
        let mut bytes = [0; 4];
        source.read_at(self.desc_offset.saturating_add(start), &mut bytes)?;
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    pub(crate) fn fault(&self, reason: FaultReason) -> NoteFault {
        NoteFault {
            offset: self.offset,
            xen_kind: self.xen_kind(),
            reason,
        }
    }
}

/// A fault of a note, and its place in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} at file offset {offset:#x}: {reason}", Owner(*.xen_kind))]
pub struct NoteFault {
    /// Where the record, or the area, begins in the file.
    pub offset: u64,
    /// The type of the note, if it is a Xen note.
    pub xen_kind: Option<XenNoteType>,
    /// The fault.
    pub reason: FaultReason,
}

/// A fault of a note or of an area of notes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FaultReason {
    /// The area ends inside the record.
    Cut {
        /// The size of the record in bytes, header included.
        need_bytes: u64,
        /// The rest of the area in bytes.
        left_bytes: u64,
    },
    /// The file ends before the area does.
    AreaOutside {
        /// Length of the area in bytes.
        len_bytes: u64,
        /// Length of the file in bytes.
        file_bytes: u64,
    },
    /// The file has more than [`MAX_NOTES`] notes.
    TooMany,
    /// A number is not 1, 2, 4 or 8 bytes long.
    DescSize {
        /// Length of the descriptor in bytes.
        size: u32,
    },
    /// A 32-bit number has a high half that is not 0.
    TooWide {
        /// The number.
        value: u64,
    },
    /// The entry is 0xFFFF_FFFF, which Xen reads as "none".
    Unset,
    /// The source failed.
    Unreadable(ReadError),
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cut {
                need_bytes,
                left_bytes,
            } => write!(
                f,
                "it needs {need_bytes} bytes, but {left_bytes} are left in its area"
            ),
            Self::AreaOutside {
                len_bytes,
                file_bytes,
            } => write!(
                f,
                "{len_bytes} bytes are not inside the file of {file_bytes} bytes"
            ),
            Self::TooMany => write!(f, "the file has more than {MAX_NOTES} notes"),
            Self::DescSize { size } => {
                write!(f, "its number has {size} bytes; 1, 2, 4 and 8 are possible")
            }
            Self::TooWide { value } => write!(f, "{value:#x} does not fit 32 bits"),
            Self::Unset => f.write_str("0xffffffff means \"no entry\""),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

struct Owner(Option<XenNoteType>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.0 else {
            return f.write_str("note");
        };
        match kind.name() {
            Some(name) => write!(f, "Xen note {name}"),
            None => write!(f, "Xen note of type {}", kind.0),
        }
    }
}

/// Walks the note records of one range of a source; ends after the first fault.
///
/// As in libelf, padding is to 4 bytes in both classes and never to `p_align`. A record must lie in
/// the range; the padding after its descriptor may be missing.
#[derive(Debug)]
pub struct NoteWalk<'s, S: ?Sized> {
    source: &'s S,
    area: Area,
    at: u64,
    notes_left: u32,
    is_over: bool,
}

/// A range of the file, and the length of it that exists.
#[derive(Clone, Copy, Debug)]
struct Area {
    offset: u64,
    len_bytes: u64,
    end: u64,
}

impl<'s, S: Source + ?Sized> NoteWalk<'s, S> {
    /// Starts at file offset `offset`; yields at most [`MAX_NOTES`] records.
    pub fn new(source: &'s S, offset: u64, len_bytes: u64) -> Self {
        Self::bounded(source, offset, len_bytes, MAX_NOTES)
    }

    /// Starts at file offset `offset`; yields at most `max_notes` records.
    pub fn bounded(source: &'s S, offset: u64, len_bytes: u64, max_notes: u32) -> Self {
        let end = offset.saturating_add(len_bytes).min(source.len_bytes());
        Self {
            source,
            area: Area {
                offset,
                len_bytes,
                end,
            },
            at: offset,
            notes_left: max_notes,
            is_over: false,
        }
    }

    /// Returns the most records that it can still yield.
    #[must_use]
    pub const fn notes_left(&self) -> u32 {
        self.notes_left
    }

    /// Reads the record at `self.at`, which is below the end, and steps over it.
    fn step(&mut self) -> Result<Note, NoteFault> {
        let notes_left = self.notes_left.checked_sub(1);
        self.notes_left = notes_left.ok_or_else(|| self.fault(None, FaultReason::TooMany))?;
        self.must_hold(HEADER_BYTES, None)?;
        let head = self.head();
        let head = head.map_err(|error| self.fault(None, FaultReason::Unreadable(error)))?;
        let kind = head.header.kind.get();
        let name_size = head.header.name_size.get();
        let desc_size = head.header.desc_size.get();
        let has_name = self.left_bytes() >= size_of::<Head>() as u64;
        let is_xen = name_size > 0 && has_name && head.name == XEN_NAME;
        // the sizes have 32 bits, so no sum of them exceeds 64 bits
        let desc_start = HEADER_BYTES.saturating_add(padded(name_size));
        let need_bytes = desc_start.saturating_add(desc_size.into());
        self.must_hold(need_bytes, is_xen.then_some(XenNoteType(kind)))?;
        let offset = self.at;
        let size = desc_start.saturating_add(padded(desc_size));
        self.at = offset.saturating_add(size);
        Ok(Note {
            offset,
            kind,
            is_xen,
            name_size,
            desc_offset: offset.saturating_add(desc_start),
            desc_size,
        })
    }

    /// Reads the header and the first four bytes of the name in one access; bytes that the area
    /// does not have are 0.
    fn head(&self) -> Result<Head, ReadError> {
        let mut head = Head::new_zeroed();
        let bytes = head.as_mut_bytes();
        let left = usize::try_from(self.left_bytes()).unwrap_or(usize::MAX);
        let len = left.min(bytes.len());
        let (inside, _) = bytes.split_at_mut(len);
        self.source.read_at(self.at, inside)?;
        Ok(head)
    }

    fn must_hold(&self, need_bytes: u64, xen_kind: Option<XenNoteType>) -> Result<(), NoteFault> {
        let left_bytes = self.left_bytes();
        if need_bytes <= left_bytes {
            return Ok(());
        }
        let cut = FaultReason::Cut {
            need_bytes,
            left_bytes,
        };
        Err(self.fault(xen_kind, cut))
    }

    const fn left_bytes(&self) -> u64 {
        self.area.end.saturating_sub(self.at)
    }

    const fn fault(&self, xen_kind: Option<XenNoteType>, reason: FaultReason) -> NoteFault {
        NoteFault {
            offset: self.at,
            xen_kind,
            reason,
        }
    }

    fn area_fault(&self) -> Option<NoteFault> {
        let Area {
            offset, len_bytes, ..
        } = self.area;
        let file_bytes = self.source.len_bytes();
        let inside = offset
            .checked_add(len_bytes)
            .is_some_and(|end| end <= file_bytes);
        let reason = FaultReason::AreaOutside {
            len_bytes,
            file_bytes,
        };
        (!inside).then_some(NoteFault {
            offset,
            xen_kind: None,
            reason,
        })
    }
}

impl<S: Source + ?Sized> Iterator for NoteWalk<'_, S> {
    type Item = Result<Note, NoteFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let item = if self.at < self.area.end {
            Some(self.step())
        } else {
            self.area_fault().map(Err)
        };
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}

impl<S: Source + ?Sized> core::iter::FusedIterator for NoteWalk<'_, S> {}

#[derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::IntoBytes, zerocopy::KnownLayout)]
#[repr(C)]
struct Head {
    header: NoteHeader,
    name: [u8; 4],
}

const _: () = assert!(size_of::<Head>() == 16);

fn padded(size: u32) -> u64 {
    u64::from(size).next_multiple_of(NOTE_ALIGN)
}
