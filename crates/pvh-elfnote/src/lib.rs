#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod error;
mod features;
mod find;
mod header;
mod load;
mod note;
mod segment;
mod source;
mod text;
mod wire;
mod xen;

pub use error::{ElfError, ElfReason, TableKind};
pub use features::Features;
pub use find::{NoteError, ScanError, find_notes, scan};
pub use header::{Class, Header, Table};
pub use load::{Load, LoadError};
pub use note::{FaultReason, MAX_NOTES, Note, NoteFault, NoteWalk};
pub use segment::{PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE, ProgramHeader, SHT_NOTE, SectionHeader};
pub use source::{ReadError, Source};
pub use text::Text;
pub use xen::{NoEntry, Origin, PhysReloc, XenNotes};
