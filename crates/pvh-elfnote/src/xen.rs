//! The collected Xen notes of an image, and why it may have no entry.

use core::fmt;

use pvh_abi::elfnote::XenNoteType;

use crate::{
    FaultReason, Features, Note, NoteError, NoteFault, ReadError, Source, Text,
    features::FeatureSet,
};

/// The Xen notes of an image, collected by [`find_notes`](crate::find_notes).
///
/// The last of several notes of one type counts, except for features, which add up. A field is
/// `None` if the image has no such note.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct XenNotes {
    /// PHYS32_ENTRY: the guest-physical address where the guest is entered in 32-bit mode.
    ///
    /// [`require_entry`](Self::require_entry) says why it is missing.
    #[doc(alias = "XEN_ELFNOTE_PHYS32_ENTRY")]
    pub entry: Option<u32>,
    /// The file offset of the note that gave `entry`.
    pub entry_offset: Option<u64>,
    /// PHYS32_RELOC: the image may be moved in guest-physical space.
    #[doc(alias = "XEN_ELFNOTE_PHYS32_RELOC")]
    pub reloc: Option<PhysReloc>,
    /// GUEST_OS, for example "linux".
    pub guest_os: Option<Text>,
    /// GUEST_VERSION.
    pub guest_version: Option<Text>,
    /// XEN_VERSION, usually "xen-3.0".
    pub xen_version: Option<Text>,
    /// LOADER, usually "generic".
    pub loader: Option<Text>,
    /// PAE_MODE, for PV.
    pub pae_mode: Option<Text>,
    /// BSD_SYMTAB: "yes" if the symbol table should follow the image.
    pub bsd_symtab: Option<Text>,
    /// ENTRY: the PV entry point, a virtual address that PVH ignores.
    pub virt_entry: Option<u64>,
    /// HYPERCALL_PAGE: a virtual address; a PVH guest that has it uses the hypercall page.
    pub hypercall_page: Option<u64>,
    /// VIRT_BASE, for PV.
    pub virt_base: Option<u64>,
    /// PADDR_OFFSET, for PV.
    pub paddr_offset: Option<u64>,
    /// HV_START_LOW, for PV.
    pub hv_start_low: Option<u64>,
    /// INIT_P2M, for PV.
    pub init_p2m: Option<u64>,
    /// SUSPEND_CANCEL: not 0 if the guest supports a cancelled suspend.
    pub suspend_cancel: Option<u64>,
    /// MOD_START_PFN: not 0 if the module need not be mapped, for PV.
    pub mod_start_pfn: Option<u64>,
    /// The features that the guest requires: the names with `!` in FEATURES.
    pub required_features: Features,
    /// The features that the guest supports: all known names in FEATURES, and SUPPORTED_FEATURES.
    pub supported_features: Features,
    /// Where the notes were found.
    pub origin: Origin,
    /// The number of Xen notes, of known and unknown types.
    pub count: u32,
    /// The number of notes of other owners.
    pub foreign_count: u32,
    /// The first place where a walk had to stop. Notes found before it and elsewhere still count.
    pub fault: Option<NoteFault>,
    /// The entry note that was refused, unless a later one was good.
    pub refused: Option<NoteFault>,
}

/// Where notes were searched last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "libelf looks in no third place")]
pub enum Origin {
    /// In the PT_NOTE segments.
    Segments,
    /// In the SHT_NOTE sections, because no segment had a Xen note.
    Sections,
}

/// How an image may be moved, as its PHYS32_RELOC note says; not checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PhysReloc {
    /// The alignment of the load address in bytes. `None` means the largest `p_align` if that is at
    /// least 4 KiB, and 2 MiB otherwise.
    pub align: Option<u32>,
    /// The lowest load address; 0 if the note does not say.
    pub min: u32,
    /// The highest address of the last byte; 0xFFFF_FFFF if the note does not say.
    pub max: u32,
}

/// The reason why an image cannot be entered through PVH.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEntry {
    /// No segment and no section has a note.
    #[error("the file has no ELF notes")]
    NoNotes,
    /// There are notes, but no Xen note.
    #[error("none of the {foreign_count} ELF notes is named \"Xen\"")]
    NoXenNotes {
        /// The number of notes of other owners.
        foreign_count: u32,
    },
    /// There are Xen notes, but no PHYS32_ENTRY note.
    #[error("none of the {count} Xen notes is PHYS32_ENTRY (18)")]
    NoEntryNote {
        /// The number of Xen notes.
        count: u32,
    },
    /// The PHYS32_ENTRY note cannot be used.
    #[error("the PHYS32_ENTRY note cannot be used")]
    Refused(#[source] NoteFault),
    /// No PHYS32_ENTRY note was found before the notes became unreadable.
    #[error("no PHYS32_ENTRY note before the notes became unreadable")]
    Cut(#[source] NoteFault),
}

impl XenNotes {
    pub(crate) const fn new() -> Self {
        Self {
            entry: None,
            entry_offset: None,
            reloc: None,
            guest_os: None,
            guest_version: None,
            xen_version: None,
            loader: None,
            pae_mode: None,
            bsd_symtab: None,
            virt_entry: None,
            hypercall_page: None,
            virt_base: None,
            paddr_offset: None,
            hv_start_low: None,
            init_p2m: None,
            suspend_cancel: None,
            mod_start_pfn: None,
            required_features: Features(0),
            supported_features: Features(0),
            origin: Origin::Segments,
            count: 0,
            foreign_count: 0,
            fault: None,
            refused: None,
        }
    }

    /// Returns the entry point.
    ///
    /// # Errors
    ///
    /// [`NoEntry`] with the exact reason.
    pub const fn require_entry(&self) -> Result<u32, NoEntry> {
        if let Some(entry) = self.entry {
            return Ok(entry);
        }
        Err(match (self.refused, self.fault) {
            (Some(fault), _) => NoEntry::Refused(fault),
            (None, Some(fault)) => NoEntry::Cut(fault),
            (None, None) if self.count > 0 => NoEntry::NoEntryNote { count: self.count },
            (None, None) if self.foreign_count > 0 => NoEntry::NoXenNotes {
                foreign_count: self.foreign_count,
            },
            (None, None) => NoEntry::NoNotes,
        })
    }

    /// Adds the result of a walk.
    pub(crate) fn take<S: Source + ?Sized>(
        &mut self,
        source: &S,
        item: Result<Note, NoteFault>,
        feature_bytes_left: &mut u32,
    ) -> Result<(), NoteError> {
        match item {
            Ok(note) if note.xen_kind() == Some(XenNoteType::FEATURES) => {
                self.count = self.count.saturating_add(1);
                self.take_features(source, &note, feature_bytes_left)
            }
            Ok(note) => self.take_note(source, &note),
            Err(fault) => self.take_fault(fault),
        }
    }

    fn take_fault(&mut self, fault: NoteFault) -> Result<(), NoteError> {
        if let FaultReason::Unreadable(error) = fault.reason {
            return Err(NoteError::Unreadable(error));
        }
        self.fault.get_or_insert(fault);
        if fault.xen_kind.is_some() {
            self.count = self.count.saturating_add(1);
        }
        if fault.xen_kind == Some(XenNoteType::PHYS32_ENTRY) && self.entry.is_none() {
            self.refused.get_or_insert(fault);
        }
        Ok(())
    }

    fn take_note<S: Source + ?Sized>(&mut self, source: &S, note: &Note) -> Result<(), NoteError> {
        let Some(kind) = note.xen_kind() else {
            self.foreign_count = self.foreign_count.saturating_add(1);
            return Ok(());
        };
        self.count = self.count.saturating_add(1);
        if kind == XenNoteType::PHYS32_ENTRY {
            return self.take_entry(source, note);
        }
        if let Some(slot) = self.text_slot(kind) {
            *slot = Some(note.text(source).map_err(NoteError::Unreadable)?);
        } else if let Some(slot) = self.number_slot(kind) {
            *slot = usable(note.number(source))?.ok();
        } else {
            self.take_words(source, note, kind)
                .map_err(NoteError::Unreadable)?;
        }
        Ok(())
    }

    /// A later entry note replaces an earlier one, even if it is bad: libelf would read 0 or half
    /// of it.
    fn take_entry<S: Source + ?Sized>(&mut self, source: &S, note: &Note) -> Result<(), NoteError> {
        let entry = usable(note.number(source))?.and_then(|value| match u32::try_from(value) {
            Ok(u32::MAX) => Err(note.fault(FaultReason::Unset)),
            Ok(entry) => Ok(entry),
            Err(_) => Err(note.fault(FaultReason::TooWide { value })),
        });
        self.entry = entry.ok();
        self.entry_offset = entry.is_ok().then_some(note.offset);
        self.refused = entry.err();
        Ok(())
    }

    fn take_features<S: Source + ?Sized>(
        &mut self,
        source: &S,
        note: &Note,
        bytes_left: &mut u32,
    ) -> Result<(), NoteError> {
        let set = FeatureSet::read(source, note, bytes_left).map_err(NoteError::Unreadable)?;
        if let Some(name) = set.unknown {
            let offset = note.offset;
            return Err(NoteError::UnknownRequired { offset, name });
        }
        self.supported_features = self.supported_features.union(set.supported);
        self.required_features = self.required_features.union(set.required);
        Ok(())
    }

    fn take_words<S: Source + ?Sized>(
        &mut self,
        source: &S,
        note: &Note,
        kind: XenNoteType,
    ) -> Result<(), ReadError> {
        match kind {
            XenNoteType::PHYS32_RELOC => {
                self.reloc = Some(PhysReloc {
                    align: note.word(source, 0)?,
                    min: note.word(source, 1)?.unwrap_or(0),
                    max: note.word(source, 2)?.unwrap_or(u32::MAX),
                });
            }
            XenNoteType::SUPPORTED_FEATURES => {
                let more = Features(note.word(source, 0)?.unwrap_or(0));
                self.supported_features = self.supported_features.union(more);
            }
            _ => {}
        }
        Ok(())
    }

    const fn text_slot(&mut self, kind: XenNoteType) -> Option<&mut Option<Text>> {
        Some(match kind {
            XenNoteType::GUEST_OS => &mut self.guest_os,
            XenNoteType::GUEST_VERSION => &mut self.guest_version,
            XenNoteType::XEN_VERSION => &mut self.xen_version,
            XenNoteType::LOADER => &mut self.loader,
            XenNoteType::PAE_MODE => &mut self.pae_mode,
            XenNoteType::BSD_SYMTAB => &mut self.bsd_symtab,
            _ => return None,
        })
    }

    const fn number_slot(&mut self, kind: XenNoteType) -> Option<&mut Option<u64>> {
        Some(match kind {
            XenNoteType::ENTRY => &mut self.virt_entry,
            XenNoteType::HYPERCALL_PAGE => &mut self.hypercall_page,
            XenNoteType::VIRT_BASE => &mut self.virt_base,
            XenNoteType::PADDR_OFFSET => &mut self.paddr_offset,
            XenNoteType::HV_START_LOW => &mut self.hv_start_low,
            XenNoteType::INIT_P2M => &mut self.init_p2m,
            XenNoteType::SUSPEND_CANCEL => &mut self.suspend_cancel,
            XenNoteType::MOD_START_PFN => &mut self.mod_start_pfn,
            _ => return None,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segments => "PT_NOTE segments",
            Self::Sections => "SHT_NOTE sections",
        })
    }
}

/// Separates a failing source, which ends the search, from a note that is only wrong.
fn usable(number: Result<u64, NoteFault>) -> Result<Result<u64, NoteFault>, NoteError> {
    match number {
        Err(NoteFault {
            reason: FaultReason::Unreadable(error),
            ..
        }) => Err(NoteError::Unreadable(error)),
        other => Ok(other),
    }
}
