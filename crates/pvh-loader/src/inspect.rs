//! Describes a kernel file and says whether it would boot: the data of a report.

#[cfg(feature = "json")]
mod json;
mod text;

use std::{fs::File, path::Path};

use pvh_abi::{Gpa, GuestRange, elfnote::XenNoteType};
use pvh_elfnote::{Class, Note, NoteWalk, Origin, PhysReloc, ProgramHeader, Text};

use crate::{
    image::{
        Codec, Format, ImageError, Limits, bzimage,
        elf::Headers,
        source::{Backing, read_error},
        unpack,
    },
    plan::{Demand, PlanError, Relocation, Segment, place},
    stubs::{self, StubError, StubPair},
};

#[cfg(feature = "json")]
pub use json::unreadable_json;

/// The description of a kernel file. Parts that could not be read are `None`; the verdict says why.
#[derive(Debug)]
pub struct Report {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// The file format.
    pub format: Option<Format>,
    /// The bzImage's payload.
    pub payload: Option<PayloadReport>,
    /// The ELF, unpacked.
    pub elf: Option<ElfReport>,
    /// The hypercall stubs in its code, or why they cannot be determined; `None` without an ELF.
    pub stubs: Option<Result<StubPair, StubError>>,
    /// Whether it would boot.
    pub verdict: Verdict,
}

/// Where the packed kernel is in a bzImage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PayloadReport {
    /// How it is compressed.
    pub codec: Codec,
    /// Boot protocol, major and minor version.
    pub protocol: (u8, u8),
    /// Where it begins in the file.
    pub offset: u64,
    /// Its packed length in bytes, the appended length of the content included.
    pub packed_bytes: u64,
    /// Its unpacked length in bytes.
    pub unpacked_bytes: u64,
}

/// The contents of the ELF.
#[derive(Clone, Debug)]
pub struct ElfReport {
    /// Length in bytes.
    pub len_bytes: u64,
    /// Width of its fields.
    pub class: Class,
    /// `e_type`.
    pub kind: u16,
    /// `e_machine`.
    pub machine: u16,
    /// `e_entry`, which PVH ignores.
    pub start: u64,
    /// All program headers, in table order.
    pub segments: Vec<ProgramHeader>,
    /// Where notes were found.
    pub origin: Origin,
    /// All Xen notes, in file order.
    pub notes: Vec<NoteReport>,
    /// The PVH entry point.
    pub entry: Option<u32>,
    /// Where the image may be moved to.
    pub relocation: Option<PhysReloc>,
}

/// One Xen note.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NoteReport {
    /// Where its record begins in the ELF.
    pub offset: u64,
    /// Its type, which has the name.
    pub kind: XenNoteType,
    /// Its value.
    pub value: NoteValue,
}

/// The value of a note, in the form of its type.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NoteValue {
    /// A number of 1, 2, 4 or 8 bytes.
    Number(u64),
    /// Up to three 32-bit words.
    Words(Vec<u32>),
    /// A string; it is displayed without control characters.
    Text(Text),
    /// Bytes of another form.
    Opaque {
        /// Length of the descriptor.
        len_bytes: u32,
    },
}

/// Whether a kernel would boot.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It would boot, in a guest with enough RAM.
    Bootable,
    /// It is not a kernel for PVH.
    Refused {
        /// The reason.
        why: ImageError,
    },
    /// It cannot be placed in any guest, whatever its RAM.
    Unplaceable {
        /// The reason.
        why: PlanError,
    },
}

impl Verdict {
    /// Tells whether the kernel would boot.
    #[must_use]
    pub const fn is_bootable(&self) -> bool {
        matches!(self, Self::Bootable)
    }

    /// Returns the reason of a refusal.
    #[must_use]
    pub fn why(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bootable => None,
            Self::Refused { why } => Some(why),
            Self::Unplaceable { why } => Some(why),
        }
    }

    /// Returns what the user can do about it, if there is something to do.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Bootable => None,
            Self::Refused { why } => why.fix().map(str::to_owned),
            Self::Unplaceable { why } => why.fix().map(|fix| fix.to_string()),
        }
    }
}

/// Inspects the file at `path`.
///
/// # Errors
///
/// [`ImageError`] if the file cannot be opened or is neither a regular file nor a pipe. All other
/// errors are in the report.
pub fn inspect(path: impl AsRef<Path>) -> Result<Report, ImageError> {
    let file = File::open(path).map_err(|source| ImageError::Open { source })?;
    inspect_file(file, &Limits::default())
}

/// Inspects an open file.
///
/// # Errors
///
/// As [`inspect`].
pub fn inspect_file(file: File, limits: &Limits) -> Result<Report, ImageError> {
    let file = Backing::from_file(file, limits).map_err(|(_, why)| why)?;
    Ok(report(&file, limits))
}

/// Inspects a kernel in memory.
#[must_use]
pub fn inspect_bytes(bytes: Vec<u8>, limits: &Limits) -> Report {
    report(&Backing::Bytes(bytes), limits)
}

fn report(file: &Backing, limits: &Limits) -> Report {
    let mut report = Report {
        file_bytes: file.len_bytes(),
        format: None,
        payload: None,
        elf: None,
        stubs: None,
        verdict: Verdict::Bootable,
    };
    if let Err(verdict) = fill(&mut report, file, limits) {
        report.verdict = verdict;
    }
    report
}

/// Fills in the report, in the order of a boot, up to the first error.
fn fill(report: &mut Report, file: &Backing, limits: &Limits) -> Result<(), Verdict> {
    let refused = |why| Verdict::Refused { why };
    let unpacked = unpack::unpack(file, limits).map_err(refused)?;
    let elf = unpacked.elf.as_ref().unwrap_or(file);
    report.format = Some(unpacked.format);
    report.payload = payload(unpacked.format, unpacked.payload, elf.len_bytes());
    let headers = Headers::read(elf).map_err(refused)?;
    report.elf = Some(elf_report(elf, &headers));
    let loads: Vec<ProgramHeader> = headers.loads().collect();
    report.stubs = Some(stubs::find(&loads, |offset, buf| {
        let len_bytes = buf.len() as u64;
        elf.read(offset, buf)
            .map_err(|source| read_error(offset, len_bytes, source))
    }));
    let entry = headers.entry().map_err(refused)?;
    try_place(&headers, entry, elf.len_bytes()).map_err(|why| Verdict::Unplaceable { why })
}

fn payload(
    format: Format,
    payload: Option<bzimage::Payload>,
    unpacked_bytes: u64,
) -> Option<PayloadReport> {
    let (Format::BzImage { codec } | Format::GzippedBzImage { codec }) = format else {
        return None;
    };
    let bzimage::Payload {
        protocol,
        offset,
        len_bytes: packed_bytes,
    } = payload?;
    Some(PayloadReport {
        codec,
        protocol,
        offset,
        packed_bytes,
        unpacked_bytes,
    })
}

fn elf_report(elf: &Backing, headers: &Headers) -> ElfReport {
    ElfReport {
        len_bytes: elf.len_bytes(),
        class: headers.header.class,
        kind: headers.header.kind,
        machine: headers.header.machine,
        start: headers.header.entry,
        segments: headers.segments.clone(),
        origin: headers.notes.origin,
        notes: notes(elf, headers),
        entry: headers.notes.entry,
        relocation: headers.notes.reloc,
    }
}

/// Lists the Xen notes, up to the first that cannot be read.
fn notes(elf: &Backing, headers: &Headers) -> Vec<NoteReport> {
    let areas: Vec<(u64, u64)> = match headers.notes.origin {
        Origin::Segments => {
            let found = headers.segments.iter().filter(|segment| segment.is_note());
            found
                .map(|segment| (segment.offset, segment.file_size))
                .collect()
        }
        Origin::Sections => {
            let found = headers.header.section_headers(elf).skip(1).flatten();
            found
                .filter(|section| section.is_note())
                .map(|section| (section.offset, section.size))
                .collect()
        }
    };
    let walks = areas
        .into_iter()
        .flat_map(|(offset, len_bytes)| NoteWalk::new(elf, offset, len_bytes).flatten());
    walks
        .take(MAX_LISTED)
        .filter_map(|note| note_report(elf, &note))
        .collect()
}

fn note_report(elf: &Backing, note: &Note) -> Option<NoteReport> {
    let kind = note.xen_kind()?;
    let len_bytes = note.desc_size;
    let value = match kind {
        XenNoteType::PHYS32_RELOC => {
            let words = (0..3).map_while(|index| note.word(elf, index).ok().flatten());
            NoteValue::Words(words.collect())
        }
        kind if TEXTS.contains(&kind) => NoteValue::Text(note.text(elf).ok()?),
        kind if NUMBERS.contains(&kind) => match note.number(elf) {
            Ok(number) => NoteValue::Number(number),
            Err(_) => NoteValue::Opaque { len_bytes },
        },
        _ => NoteValue::Opaque { len_bytes },
    };
    Some(NoteReport {
        offset: note.offset,
        kind,
        value,
    })
}

/// Places the kernel alone in the largest guest, with the smallest start info.
fn try_place(headers: &Headers, entry: u32, file_len_bytes: u64) -> Result<(), PlanError> {
    let segments: Vec<Segment> = headers
        .loads()
        .map(|header| Segment::from(&header))
        .collect();
    let ram = [GuestRange {
        start: Gpa(0),
        len_bytes: LARGEST_RAM,
    }];
    let demand = Demand {
        segments: &segments,
        file_len_bytes,
        entry,
        relocation: headers.notes.reloc.map(Relocation::from),
        module_sizes: &[],
        start_info_bytes: 1,
        ram: &ram,
        taken: &[],
    };
    place(&demand).map(|_| ())
}

const TEXTS: [XenNoteType; 8] = [
    XenNoteType::INFO,
    XenNoteType::XEN_VERSION,
    XenNoteType::GUEST_OS,
    XenNoteType::GUEST_VERSION,
    XenNoteType::LOADER,
    XenNoteType::PAE_MODE,
    XenNoteType::FEATURES,
    XenNoteType::BSD_SYMTAB,
];

const NUMBERS: [XenNoteType; 10] = [
    XenNoteType::ENTRY,
    XenNoteType::HYPERCALL_PAGE,
    XenNoteType::VIRT_BASE,
    XenNoteType::PADDR_OFFSET,
    XenNoteType::HV_START_LOW,
    XenNoteType::SUSPEND_CANCEL,
    XenNoteType::INIT_P2M,
    XenNoteType::MOD_START_PFN,
    XenNoteType::SUPPORTED_FEATURES,
    XenNoteType::PHYS32_ENTRY,
];

/// The most notes that are listed; no kernel has more.
const MAX_LISTED: usize = 4096;

/// The most RAM below 4 GiB: the hole for devices and special pages begins here.
const LARGEST_RAM: u64 = 0xfc00_0000;
