//! The report for programs: one JSON object. `docs/inspect-json.md` describes it.
//!
//! An address is there twice, as a number and as a string in hexadecimal: programs that keep numbers
//! as floating point, such as jq, round those above 2^53.

use pvh_abi::ErrorLine;
use pvh_elfnote::{Class, Origin, ProgramHeader};
use serde_json::{Value, json};

use super::{ElfReport, NoteReport, NoteValue, PayloadReport, Report};
use crate::{
    image::ImageError,
    stubs::{Stub, StubPair},
};

impl Report {
    /// Returns the report as one JSON object, about the file called `name`.
    #[must_use]
    pub fn json(&self, name: &str) -> String {
        object(name, self).to_string()
    }
}

/// Returns the JSON object for a file that could not be read.
#[must_use]
pub fn unreadable_json(name: &str, error: &ImageError) -> String {
    unreadable(name, error).to_string()
}

fn object(name: &str, report: &Report) -> Value {
    let entry = report.elf.as_ref().and_then(|elf| elf.entry);
    json!({
        "schema": SCHEMA,
        "file": name,
        "file_bytes": report.file_bytes,
        "format": report.format.map(|format| format.to_string()),
        "payload": report.payload.as_ref().map(payload),
        "elf": report.elf.as_ref().map(elf),
        "entry": entry,
        "entry_hex": entry.map(hex),
        "hypercall_stubs": report.stubs.as_ref().and_then(|found| found.as_ref().ok()).map(stubs),
        "hypercall_stubs_why": report
            .stubs
            .as_ref()
            .and_then(|found| found.as_ref().err())
            .map(|error| ErrorLine(error).to_string()),
        "bootable": report.verdict.is_bootable(),
        "why": report.verdict.why().map(|why| ErrorLine(why).to_string()),
        "fix": report.verdict.fix(),
    })
}

fn unreadable(name: &str, error: &ImageError) -> Value {
    json!({
        "schema": SCHEMA,
        "file": name,
        "file_bytes": null,
        "format": null,
        "payload": null,
        "elf": null,
        "entry": null,
        "entry_hex": null,
        "hypercall_stubs": null,
        "hypercall_stubs_why": null,
        "bootable": false,
        "why": ErrorLine(error).to_string(),
        "fix": error.fix(),
    })
}

fn stubs(pair: &StubPair) -> Value {
    let stub = |stub: Stub| {
        let at = stub.at.0;
        json!({ "at": at, "at_hex": hex(at), "offset": stub.file_offset })
    };
    json!({ "vmmcall": stub(pair.vmmcall), "vmcall": stub(pair.vmcall) })
}

fn payload(payload: &PayloadReport) -> Value {
    json!({
        "codec": payload.codec.name(),
        "boot_protocol": [payload.protocol.0, payload.protocol.1],
        "offset": payload.offset,
        "packed_bytes": payload.packed_bytes,
        "unpacked_bytes": payload.unpacked_bytes,
    })
}

fn elf(elf: &ElfReport) -> Value {
    json!({
        "class": match elf.class { Class::Elf32 => 32, Class::Elf64 => 64 },
        "machine": elf.machine,
        "type": elf.kind,
        "bytes": elf.len_bytes,
        "e_entry": elf.start,
        "e_entry_hex": hex(elf.start),
        "segments": elf.boot_segments().map(segment).collect::<Vec<_>>(),
        "notes": elf.notes.iter().map(note).collect::<Vec<_>>(),
        "notes_from": notes_from(elf),
        "relocation": elf.relocation.map(|reloc| json!({
            "align": reloc.align,
            "min": reloc.min,
            "min_hex": hex(reloc.min),
            "max": reloc.max,
            "max_hex": hex(reloc.max),
        })),
    })
}

fn segment(segment: &ProgramHeader) -> Value {
    json!({
        "type": segment.kind,
        "offset": segment.offset,
        "paddr": segment.paddr,
        "paddr_hex": hex(segment.paddr),
        "vaddr": segment.vaddr,
        "vaddr_hex": hex(segment.vaddr),
        "file_size": segment.file_size,
        "mem_size": segment.mem_size,
        "flags": segment.flags,
        "align": segment.align,
    })
}

fn note(note: &NoteReport) -> Value {
    json!({
        "type": note.kind.0,
        "name": note.name(),
        "offset": note.offset,
        "value": match &note.value {
            NoteValue::Number(number) => json!(number),
            NoteValue::Words(words) => json!(words),
            NoteValue::Text(text) => json!(text.to_string()),
            _ => Value::Null,
        },
        "value_hex": match &note.value {
            NoteValue::Number(number) => json!(hex(*number)),
            NoteValue::Words(words) => words.iter().copied().map(hex).collect(),
            _ => Value::Null,
        },
        "bytes": match &note.value {
            NoteValue::Opaque { len_bytes } => json!(len_bytes),
            _ => Value::Null,
        },
    })
}

/// An address as a string that is exact in every language.
fn hex(address: impl Into<u64>) -> String {
    format!("{:#x}", address.into())
}

/// The version of the object. It rises when a key goes away or changes its meaning.
const SCHEMA: u32 = 1;

/// Where the Xen notes are, if there are any.
fn notes_from(elf: &ElfReport) -> Option<&'static str> {
    let origin = match elf.origin {
        Origin::Segments => "segments",
        Origin::Sections => "sections",
    };
    (!elf.notes.is_empty()).then_some(origin)
}
