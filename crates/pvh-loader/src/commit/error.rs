//! Why a plan was not carried out.

use std::io;

use pvh_abi::GuestRange;
use pvh_entry::EntryError;
use pvh_memory::MemoryError;
use pvh_start_info::BuildError;

use crate::{
    image::ImageError,
    plan::{Patch, WriteKind},
};

/// Why a plan was not carried out.
///
/// Only [`CommitError::ReadImage`], [`CommitError::ReadModule`], [`CommitError::Memory`] and
/// [`CommitError::MemoryPatch`] can come after the first write, and
/// [`CommitError::memory_untouched`] tells. The caller then discards the guest memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The image's file has changed: the instruction to be patched is gone.
    #[error("the image has changed: instead of {patch} it has the bytes {found:02x?}")]
    StubChanged {
        /// The patch.
        patch: Patch,
        /// The bytes that are there now.
        found: [u8; 3],
    },
    /// The guest memory has no RAM where the memory map says so.
    #[error("{what}: the guest memory has no RAM for all of {range}")]
    NotRam {
        /// The write that would go there.
        what: WriteKind,
        /// The range of the write.
        range: GuestRange,
    },
    /// The start info cannot be built.
    #[error("the start info cannot be built")]
    StartInfo(#[source] BuildError),
    /// The plan has no entry state.
    #[error("the guest cannot be entered")]
    Entry(#[source] EntryError),
    /// A module's file has changed its length since it was opened.
    #[error(
        "module {index} had {expected_bytes} bytes when it was opened and has {found_bytes} now"
    )]
    ModuleChanged {
        /// Which module.
        index: usize,
        /// Its length when it was opened.
        expected_bytes: u64,
        /// Its length now.
        found_bytes: u64,
    },
    /// The length of a module's file cannot be read.
    #[error("the length of module {index} cannot be read")]
    Module {
        /// Which module.
        index: usize,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The image's file has become shorter.
    #[error("the image's file has become shorter")]
    ImageChanged(#[source] ImageError),
    /// The image could not be read, after a check that could.
    #[error("segment {index} cannot be read")]
    ReadImage {
        /// Which segment.
        index: usize,
        /// The reason.
        #[source]
        source: ImageError,
    },
    /// A module could not be read, after a check found its length right.
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
    /// The guest memory refused a write, though it said that RAM is there.
    #[error("{what}: the guest memory refused the write")]
    Memory {
        /// The write.
        what: WriteKind,
        /// The reason.
        #[source]
        source: MemoryError,
    },
    /// The guest memory refused a patch, though it took the segment.
    #[error("the patch of {patch}: the guest memory refused the write")]
    MemoryPatch {
        /// The patch.
        patch: Patch,
        /// The reason.
        #[source]
        source: MemoryError,
    },
}

impl CommitError {
    /// Tells whether nothing has been written yet.
    #[must_use]
    pub const fn memory_untouched(&self) -> bool {
        !matches!(
            self,
            Self::ReadImage { .. }
                | Self::ReadModule { .. }
                | Self::Memory { .. }
                | Self::MemoryPatch { .. }
        )
    }
}
