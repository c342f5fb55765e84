//! Why a plan was not carried out.

use std::io;

use pvh_entry::EntryError;
use pvh_memory::MemoryError;
use pvh_start_info::BuildError;

use crate::{
    image::ImageError,
    layout::GuestRange,
    plan::{Patch, WriteKind},
};

/// Why a plan was not carried out.
///
/// Only [`CommitError::ReadImage`], [`CommitError::ReadModule`], [`CommitError::Memory`] and
/// [`CommitError::MemoryPatch`] can come after the first write; [`CommitError::memory_untouched`] tells. Then throw the guest memory away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The image's file has changed where the instruction was that is to be patched.
    #[error("the image has changed: no {patch}, but the bytes {found:02x?}")]
    StubChanged {
        /// The patch.
        patch: Patch,
        /// What is there now.
        found: [u8; 3],
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
    /// The guest memory refused a patch, though it had taken the segment.
    #[error("the patch of {patch}: the guest memory refuses it")]
    MemoryPatch {
        /// What was being patched.
        patch: Patch,
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
            Self::ReadImage { .. }
                | Self::ReadModule { .. }
                | Self::Memory { .. }
                | Self::MemoryPatch { .. }
        )
    }
}
