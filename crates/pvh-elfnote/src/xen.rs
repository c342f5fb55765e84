use core::fmt;

use pvh_abi::elfnote::XenNoteType;

use crate::{
    FaultReason, Features, Note, NoteError, NoteFault, ReadError, Source, Text,
    features::FeatureSet,
};

/// What the Xen notes of an image say, as [`find_notes`](crate::find_notes) gathered it.
///
/// Of duplicates the last one counts, but for the features, which add up. A field is `None` when
/// no note gave it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct XenNotes {
    /// PHYS32_ENTRY: the guest-physical address where the guest is entered in 32-bit mode.
    ///
    /// [`require_entry`](Self::require_entry) says why there is none.
    #[doc(alias = "XEN_ELFNOTE_PHYS32_ENTRY")]
    pub entry: Option<u32>,
    /// Where in the file the note is that `entry` is from.
    pub entry_offset: Option<u64>,
    /// PHYS32_RELOC: the image may be moved in guest-physical space.
    #[doc(alias = "XEN_ELFNOTE_PHYS32_RELOC")]
    pub reloc: Option<PhysReloc>,
    /// GUEST_OS, "linux" for example.
    pub guest_os: Option<Text>,
    /// GUEST_VERSION.
    pub guest_version: Option<Text>,
    /// XEN_VERSION, "xen-3.0" as a rule.
    pub xen_version: Option<Text>,
    /// LOADER, "generic" as a rule.
    pub loader: Option<Text>,
    /// PAE_MODE, for PV.
    pub pae_mode: Option<Text>,
    /// BSD_SYMTAB: "yes" if the symbol table is to follow the image.
    pub bsd_symtab: Option<Text>,
    /// ENTRY: the PV entry point, a virtual address that PVH ignores.
    pub virt_entry: Option<u64>,
    /// HYPERCALL_PAGE: a virtual address; a PVH guest that has it knows the page.
    pub hypercall_page: Option<u64>,
    /// VIRT_BASE, for PV.
    pub virt_base: Option<u64>,
    /// PADDR_OFFSET, for PV.
    pub paddr_offset: Option<u64>,
    /// HV_START_LOW, for PV.
    pub hv_start_low: Option<u64>,
    /// INIT_P2M, for PV.
    pub init_p2m: Option<u64>,
    /// SUSPEND_CANCEL: not 0 if the guest copes with a cancelled suspend.
    pub suspend_cancel: Option<u64>,
    /// MOD_START_PFN: not 0 if the module need not be mapped, for PV.
    pub mod_start_pfn: Option<u64>,
    /// What the guest cannot do without: the names with `!` in FEATURES.
    pub required_features: Features,
    /// What the guest can live with: all known names in FEATURES, and SUPPORTED_FEATURES.
    pub supported_features: Features,
    /// Where the notes were found.
    pub origin: Origin,
    /// How many Xen notes were found, of known and unknown types.
    pub count: u32,
    /// How many notes of other owners were passed.
    pub foreign_count: u32,
    /// The first place where a walk had to stop; what was found before and elsewhere counts nevertheless.
    pub fault: Option<NoteFault>,
    /// The entry note that was refused, unless one after it was good.
    pub refused: Option<NoteFault>,
}

/// Where notes were looked for last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "libelf looks in no third place")]
pub enum Origin {
    /// In the PT_NOTE segments.
    Segments,
    /// In the SHT_NOTE sections, because no segment had a Xen note.
    Sections,
}

/// How an image may be moved, as its PHYS32_RELOC note says; not judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PhysReloc {
    /// What the load address must be a multiple of, in bytes; `None` means the largest `p_align` if that is at
    /// least 4 KiB, else 2 MiB.
    pub align: Option<u32>,
    /// The lowest load address; 0 when the note does not say.
    pub min: u32,
    /// The highest address of the last byte; 0xFFFF_FFFF when the note does not say.
    pub max: u32,
}

/// Why an image cannot be entered through PVH.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEntry {
    /// No segment and no section holds a note.
    #[error("the file has no ELF notes")]
    NoNotes,
    /// There are notes, but none is Xen's.
    #[error("none of the {foreign_count} ELF notes is named \"Xen\"")]
    NoXenNotes {
        /// How many notes of other owners there are.
        foreign_count: u32,
    },
    /// There are Xen notes, but none is PHYS32_ENTRY.
    #[error("none of the {count} Xen notes is PHYS32_ENTRY (18)")]
    NoEntryNote {
        /// How many Xen notes there are.
        count: u32,
    },
    /// The PHYS32_ENTRY note cannot be used.
    #[error("the entry note is refused")]
    Refused(#[source] NoteFault),
    /// No PHYS32_ENTRY note was found before the notes became unreadable.
    #[error("no PHYS32_ENTRY note among those that can be read")]
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
    /// [`NoEntry`], which says exactly why there is none.
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

    /// Takes in what a walk met.
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

    /// A later entry note replaces an earlier one, even if it is bad: libelf would take 0 or half of it.
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

/// Parts a failing source, which ends everything, from a note that is merely wrong.
fn usable(number: Result<u64, NoteFault>) -> Result<Result<u64, NoteFault>, NoteError> {
    match number {
        Err(NoteFault {
            reason: FaultReason::Unreadable(error),
            ..
        }) => Err(NoteError::Unreadable(error)),
        other => Ok(other),
    }
}
