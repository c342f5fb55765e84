//! The report for people.

use std::fmt;

use pvh_abi::ErrorLine;
use pvh_elfnote::{Class, Origin, PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE, ProgramHeader};

use super::{ElfReport, NoteReport, NoteValue, Report};
use crate::{image::Format, stubs::StubError};

impl Report {
    /// Returns the report as a page for people, about the file called `name`.
    pub fn page<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        Page { name, report: self }
    }
}

impl ElfReport {
    /// Returns the program headers that matter for a boot: `PT_LOAD` and `PT_NOTE`.
    pub fn boot_segments(&self) -> impl Iterator<Item = &ProgramHeader> {
        let segments = self.segments.iter();
        segments.filter(|segment| [PT_LOAD, PT_NOTE].contains(&segment.kind))
    }
}

impl NoteReport {
    /// Returns the name of the note's type, or "type" and its number.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.kind.name();
        name.map_or_else(|| format!("type {}", self.kind.0), str::to_owned)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf => f.write_str("ELF"),
            Self::GzippedElf => f.write_str("gzipped ELF"),
            Self::BzImage { codec } => write!(f, "bzImage ({})", codec.name()),
            Self::GzippedBzImage { codec } => write!(f, "gzipped bzImage ({})", codec.name()),
        }
    }
}

/// The report of the file called `name`.
struct Page<'a> {
    name: &'a str,
    report: &'a Report,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, report } = *self;
        match report.format {
            Some(format) => writeln!(f, "{name}: {format}")?,
            None => writeln!(f, "{name}: not a kernel")?,
        }
        writeln!(f, "  file        {} bytes", report.file_bytes)?;
        if let Some(payload) = &report.payload {
            let (major, minor) = payload.protocol;
            writeln!(
                f,
                "  payload     {}, {} bytes at {:#x}, unpacked {} bytes (boot protocol {major}.{minor:02})",
                payload.codec.name(),
                payload.packed_bytes,
                payload.offset,
                payload.unpacked_bytes,
            )?;
        }
        if let Some(elf) = &report.elf {
            elf_lines(f, elf)?;
        }
        stubs_line(f, report)?;
        let Some(why) = report.verdict.why() else {
            return writeln!(f, "  verdict     can boot through PVH");
        };
        write!(f, "  verdict     refused: {}", ErrorLine(why))?;
        match report.verdict.fix() {
            Some(fix) => writeln!(f, "; {fix}"),
            None => writeln!(f),
        }
    }
}

fn elf_lines(f: &mut fmt::Formatter<'_>, elf: &ElfReport) -> fmt::Result {
    let class = match elf.class {
        Class::Elf32 => "ELF32",
        Class::Elf64 => "ELF64",
    };
    writeln!(
        f,
        "  elf         {class}, machine {} ({}), type {} ({}), {} bytes",
        elf.machine,
        machine_name(elf.machine),
        elf.kind,
        type_name(elf.kind),
        elf.len_bytes,
    )?;
    for segment in elf.boot_segments() {
        writeln!(f, "  segment     {}", SegmentLine(segment))?;
    }
    for note in &elf.notes {
        writeln!(f, "  note        {}", NoteLine(note))?;
    }
    if !elf.notes.is_empty() {
        let origin = match elf.origin {
            Origin::Segments => "PT_NOTE segments",
            Origin::Sections => "SHT_NOTE sections",
        };
        writeln!(f, "  notes from  {origin}")?;
    }
    if let Some(entry) = elf.entry {
        writeln!(f, "  entry       {entry:#x}")?;
    }
    if let Some(reloc) = elf.relocation {
        let align = reloc
            .align
            .map_or("as the segments".to_owned(), |align| format!("{align:#x}"));
        writeln!(
            f,
            "  relocation  {:#x} to {:#x}, alignment {align}",
            reloc.min, reloc.max
        )?;
    }
    Ok(())
}

/// The hypercall stubs, or why they cannot be identified; nothing for a kernel without stubs.
fn stubs_line(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    match &report.stubs {
        Some(Ok(pair)) => {
            let [first, second] = pair.in_order();
            let (a, b) = (first.call.name(), second.call.name());
            writeln!(
                f,
                "  hypercalls  without a hypercall page: {a} at {}, {b} at {}\n              \
                 (--platform xen needs a KVM with Xen support, or --patch-hypercalls)",
                first.at, second.at
            )
        }
        None | Some(Err(StubError::NoCode | StubError::NoStub { .. })) => Ok(()),
        Some(Err(error)) => writeln!(f, "  hypercalls  {}", ErrorLine(error)),
    }
}

struct SegmentLine<'a>(&'a ProgramHeader);

impl fmt::Display for SegmentLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = self.0;
        let kind = if segment.kind == PT_LOAD {
            "LOAD"
        } else {
            "NOTE"
        };
        let flag = |bit, letter| {
            if segment.flags & bit != 0 {
                letter
            } else {
                '-'
            }
        };
        write!(
            f,
            "{kind} {}{}{} at {:#x}, {:#x} bytes of {:#x} from file offset {:#x}, align {:#x}",
            flag(PF_R, 'r'),
            flag(PF_W, 'w'),
            flag(PF_X, 'x'),
            segment.paddr,
            segment.file_size,
            segment.mem_size,
            segment.offset,
            segment.align,
        )
    }
}

struct NoteLine<'a>(&'a NoteReport);

impl fmt::Display for NoteLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = self.0;
        write!(f, "{} = ", note.name())?;
        match &note.value {
            NoteValue::Number(number) => write!(f, "{number:#x}"),
            NoteValue::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:#x}")).collect();
                f.write_str(&words.join(", "))
            }
            NoteValue::Text(text) => write!(f, "\"{text}\""),
            NoteValue::Opaque { len_bytes } => write!(f, "{len_bytes} bytes"),
        }
    }
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        3 => "i386",
        62 => "x86-64",
        _ => "not x86",
    }
}

/// The name of an `e_type`.
fn type_name(kind: u16) -> &'static str {
    match kind {
        0 => "none",
        1 => "relocatable",
        2 => "executable",
        3 => "shared object",
        4 => "core dump",
        _ => "unknown",
    }
}
