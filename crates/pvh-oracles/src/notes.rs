//! Compares `pvh-elfnote` with a second reading of the same rules.

use pvh_elfnote::{Header, ReadError, Source, XenNotes, find_notes, scan};

use self::model::{Facts, Reading, read};
use crate::bytes::is_printable;

mod model;

/// Reads an ELF file's notes in two ways.
///
/// # Panics
///
/// If they disagree on any fact, or if an error or a text would print control characters.
pub fn notes(file: &[u8]) {
    let wanted = read(file);
    let header = match Header::read(file) {
        Ok(header) => header,
        Err(error) => {
            is_printable(&error);
            assert_eq!(wanted, Reading::NotElf, "a file was refused");
            return;
        }
    };
    let past_the_end = header.segment(file, header.segments.count);
    is_printable(&past_the_end.expect_err("the table has an end"));
    let segments: Result<Vec<_>, _> = header.segments(file).collect();
    let segments = segments.expect("the table lies in the file");
    let found = match find_notes(file, &header, segments.iter().copied()) {
        Ok(notes) => {
            check(&notes);
            // a file that cannot be read where a note of weight is
            let fault = notes.fault.map(|fault| fault.offset);
            for at in [notes.entry_offset, fault].into_iter().flatten() {
                torn(file, at, &wanted);
            }
            Reading::Facts(Box::new(facts(&notes)))
        }
        Err(error) => {
            is_printable(&error);
            Reading::Forbidden
        }
    };
    assert_eq!(found, wanted);
    let somewhere = u64::from(file.last().copied().unwrap_or(0)) * file.len() as u64 / 256;
    torn(file, somewhere, &wanted);
    let entry = match &wanted {
        Reading::Facts(facts) => facts.entry,
        _ => None,
    };
    match scan(file) {
        Ok(notes) => assert_eq!(notes.entry, entry),
        Err(error) => {
            is_printable(&error);
            assert_eq!(entry, None, "{error}");
        }
    }
}

/// A file of which one byte cannot be read.
struct Torn<'a> {
    file: &'a [u8],
    at: u64,
}

impl Source for Torn<'_> {
    fn len_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let len_bytes = buf.len() as u64;
        if offset <= self.at && self.at - offset < len_bytes {
            return Err(ReadError { offset, len_bytes });
        }
        self.file.read_at(offset, buf)
    }
}

/// Asserts that a failing source gives an error, or all facts.
fn torn(file: &[u8], at: u64, wanted: &Reading) {
    let torn = Torn { file, at };
    let header = match Header::read(&torn) {
        Ok(header) => header,
        Err(error) => return is_printable(&error),
    };
    let segments: Result<Vec<_>, _> = header.segments(&torn).collect();
    let segments = match segments {
        Ok(segments) => segments,
        Err(error) => return is_printable(&error),
    };
    match find_notes(&torn, &header, segments) {
        Ok(notes) => assert_eq!(&Reading::Facts(Box::new(facts(&notes))), wanted),
        Err(error) => is_printable(&error),
    }
}

/// Checks what holds for the notes of any file.
fn check(notes: &XenNotes) {
    for fault in notes.fault.iter().chain(&notes.refused) {
        is_printable(fault);
    }
    let origin = notes.origin.to_string();
    assert!(["PT_NOTE segments", "SHT_NOTE sections"].contains(&origin.as_str()));
    // what is required is supported, or the image is refused
    assert!(notes.supported_features.contains(notes.required_features));
    let texts = [
        notes.guest_os,
        notes.guest_version,
        notes.xen_version,
        notes.loader,
        notes.pae_mode,
        notes.bsd_symtab,
    ];
    for text in texts.into_iter().flatten() {
        let (bytes, shown) = (text.as_bytes(), format!("{text:?}"));
        assert!(bytes.len() <= 64 && !bytes.contains(&0));
        assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{shown}");
        assert_eq!(text.as_str(), std::str::from_utf8(bytes).ok());
        if let Some(same) = text.as_str() {
            assert_eq!(text == same, !text.is_cut());
        }
    }
}

fn facts(notes: &XenNotes) -> Facts {
    let text = |text: Option<pvh_elfnote::Text>| text.map(|text| text.as_bytes().to_vec());
    let reloc = notes.reloc.map(|reloc| (reloc.align, reloc.min, reloc.max));
    Facts {
        entry: notes.entry,
        reloc,
        texts: [
            text(notes.guest_os),
            text(notes.guest_version),
            text(notes.xen_version),
            text(notes.loader),
            text(notes.pae_mode),
            text(notes.bsd_symtab),
        ],
        numbers: [
            notes.virt_entry,
            notes.hypercall_page,
            notes.virt_base,
            notes.paddr_offset,
            notes.hv_start_low,
            notes.init_p2m,
            notes.suspend_cancel,
            notes.mod_start_pfn,
        ],
        required: notes.required_features.0,
        supported: notes.supported_features.0,
        count: notes.count,
        foreign: notes.foreign_count,
        has_fault: notes.fault.is_some(),
        is_refused: notes.refused.is_some(),
    }
}
