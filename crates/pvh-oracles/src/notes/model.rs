//! The rules of the note walk, on slices and without regard for speed.

use crate::bytes::{field, slice};

/// The facts about a file.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// Not a readable ELF file.
    NotElf,
    /// It must not be booted.
    Forbidden,
    /// The facts in its notes.
    Facts(Box<Facts>),
}

#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Facts {
    pub(super) entry: Option<u32>,
    pub(super) reloc: Option<(Option<u32>, u32, u32)>,
    /// GUEST_OS, GUEST_VERSION, XEN_VERSION, LOADER, PAE_MODE, BSD_SYMTAB.
    pub(super) texts: [Option<Vec<u8>>; 6],
    /// ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, HV_START_LOW, INIT_P2M, SUSPEND_CANCEL,
    /// MOD_START_PFN.
    pub(super) numbers: [Option<u64>; 8],
    pub(super) required: u32,
    pub(super) supported: u32,
    pub(super) count: u32,
    pub(super) foreign: u32,
    pub(super) has_fault: bool,
    pub(super) is_refused: bool,
}

/// Reads a file.
pub(super) fn read(file: &[u8]) -> Reading {
    let Some(areas) = areas(file) else {
        return Reading::NotElf;
    };
    let mut reader = Reader {
        file,
        facts: Facts::default(),
        notes_left: 65_536,
        feature_bytes_left: 65_536,
    };
    let read = reader.read(&areas);
    match read {
        Some(()) => Reading::Facts(Box::new(reader.facts)),
        None => Reading::Forbidden,
    }
}

/// Returns offset and length of the PT_NOTE segments and then of the SHT_NOTE sections; no sections
/// if their headers cannot be read.
struct Areas {
    segments: Vec<(u64, u64)>,
    sections: Option<Vec<(u64, u64)>>,
}

fn areas(file: &[u8]) -> Option<Areas> {
    if slice(file, 0, 4)? != b"\x7fELF" || field(file, 5, 1)? != 1 {
        return None;
    }
    let (is_wide, header_len) = match field(file, 4, 1)? {
        1 => (false, 52),
        2 => (true, 64),
        _ => return None,
    };
    slice(file, 0, header_len)?;
    let native = |narrow, wide| match is_wide {
        true => field(file, wide, 8),
        false => field(file, narrow, 4),
    };
    let half = |narrow, wide| field(file, if is_wide { wide } else { narrow }, 2);
    let segments = (native(28, 32)?, half(42, 54)?, half(44, 56)?);
    let sections = (native(32, 40)?, half(46, 58)?, half(48, 60)?);
    for (offset, size, count) in [segments, sections] {
        offset
            .checked_add(size * count)
            .filter(|&end| end <= file.len() as u64)?;
    }
    let least = if is_wide { 56 } else { 32 };
    if segments.2 > 0 && segments.1 < least {
        return None;
    }
    let entry = |(offset, size, _): (u64, u64, u64), index: u64| offset + index * size;
    let mut areas = Areas {
        segments: Vec::new(),
        sections: Some(Vec::new()),
    };
    for index in 0..segments.2 {
        let at = entry(segments, index);
        let (offset, len) = match is_wide {
            true => (field(file, at + 8, 8)?, field(file, at + 32, 8)?),
            false => (field(file, at + 4, 4)?, field(file, at + 16, 4)?),
        };
        if field(file, at, 4)? == 4 && offset != 0 {
            areas.segments.push((offset, len));
        }
    }
    let least = if is_wide { 64 } else { 40 };
    if sections.2 > 1 && sections.1 < least {
        areas.sections = None;
        return Some(areas);
    }
    for index in 1..sections.2 {
        let at = entry(sections, index);
        let (offset, len) = match is_wide {
            true => (field(file, at + 24, 8)?, field(file, at + 32, 8)?),
            false => (field(file, at + 16, 4)?, field(file, at + 20, 4)?),
        };
        if field(file, at + 4, 4)? == 7 {
            areas.sections.as_mut()?.push((offset, len));
        }
    }
    Some(areas)
}

struct Reader<'a> {
    file: &'a [u8],
    facts: Facts,
    notes_left: u32,
    feature_bytes_left: usize,
}

impl Reader<'_> {
    /// `None` if the image is forbidden.
    fn read(&mut self, areas: &Areas) -> Option<()> {
        for &(offset, len) in &areas.segments {
            self.walk(offset, len)?;
        }
        if self.facts.count == 0 {
            for &(offset, len) in areas.sections.as_ref()? {
                self.walk(offset, len)?;
            }
        }
        Some(())
    }

    fn walk(&mut self, offset: u64, len: u64) -> Option<()> {
        let file_len = self.file.len() as u64;
        let end = offset.saturating_add(len).min(file_len);
        let mut at = offset;
        while at < end {
            let area = slice(self.file, at, end - at)?;
            let left = area.len() as u64;
            if self.notes_left == 0 || left < 12 {
                self.notes_left = self.notes_left.saturating_sub(1);
                self.facts.has_fault = true;
                return Some(());
            }
            self.notes_left -= 1;
            let [name, desc, kind] = [0, 4, 8].map(|at| field(area, at, 4).unwrap_or_default());
            let name_len = name.next_multiple_of(4);
            let is_xen = name > 0 && slice(area, 12, 4) == Some(b"Xen\0");
            let desc_at = 12 + name_len;
            let Some(content) = slice(area, desc_at, desc) else {
                self.fault(is_xen, kind);
                return Some(());
            };
            if is_xen {
                self.facts.count += 1;
                self.note(kind, content)?;
            } else {
                self.facts.foreign += 1;
            }
            at += desc_at + desc.next_multiple_of(4);
        }
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= file_len);
        self.facts.has_fault |= !is_inside;
        Some(())
    }

    fn fault(&mut self, is_xen: bool, kind: u64) {
        self.facts.has_fault = true;
        if is_xen {
            self.facts.count += 1;
            self.facts.is_refused |= kind == 18 && self.facts.entry.is_none();
        }
    }

    fn note(&mut self, kind: u64, desc: &[u8]) -> Option<()> {
        let number = match desc.len() {
            size @ (1 | 2 | 4 | 8) => field(desc, 0, size),
            _ => None,
        };
        let word = |index: u64| field(desc, 4 * index, 4).and_then(|word| u32::try_from(word).ok());
        let text = || {
            let end = desc.iter().position(|&byte| byte == 0);
            let text = &desc[..end.unwrap_or(desc.len())];
            Some(text[..text.len().min(64)].to_vec())
        };
        let facts = &mut self.facts;
        match kind {
            18 => {
                let entry = number.and_then(|number| u32::try_from(number).ok());
                facts.entry = entry.filter(|&entry| entry != u32::MAX);
                facts.is_refused = facts.entry.is_none();
            }
            19 => {
                facts.reloc = Some((word(0), word(1).unwrap_or(0), word(2).unwrap_or(u32::MAX)));
            }
            17 => facts.supported |= word(0).unwrap_or(0),
            10 => self.features(desc)?,
            6 => facts.texts[0] = text(),
            7 => facts.texts[1] = text(),
            5 => facts.texts[2] = text(),
            8 => facts.texts[3] = text(),
            9 => facts.texts[4] = text(),
            11 => facts.texts[5] = text(),
            1..=4 => facts.numbers[usize::try_from(kind).ok()? - 1] = number,
            12 => facts.numbers[4] = number,
            15 => facts.numbers[5] = number,
            14 => facts.numbers[6] = number,
            16 => facts.numbers[7] = number,
            _ => {}
        }
        Some(())
    }

    fn features(&mut self, desc: &[u8]) -> Option<()> {
        let limit = self.feature_bytes_left.min(4096);
        let looked_at = &desc[..desc.len().min(limit)];
        self.feature_bytes_left -= looked_at.len();
        let text = match looked_at.iter().position(|&byte| byte == 0) {
            Some(end) => &looked_at[..end],
            None if desc.len() > limit => return Some(()),
            None => looked_at,
        };
        let names = text.split(|&byte| byte == b'|');
        for name in names.flat_map(|name| name.chunks(63)) {
            let (is_required, name) = match name.strip_prefix(b"!") {
                Some(name) => (true, name),
                None => (false, name),
            };
            let bit = NAMES.iter().find(|(known, _)| *known == name);
            match bit {
                Some((_, bit)) => {
                    self.facts.supported |= 1 << bit;
                    self.facts.required |= u32::from(is_required) << bit;
                }
                None if is_required => return None,
                None => {}
            }
        }
        Some(())
    }
}

/// xen/include/public/features.h.
const NAMES: [(&[u8], u32); 7] = [
    (b"writable_page_tables", 0),
    (b"writable_descriptor_tables", 1),
    (b"auto_translated_physmap", 2),
    (b"supervisor_mode_kernel", 3),
    (b"pae_pgdir_above_4gb", 4),
    (b"hvm_callback_vector", 8),
    (b"dom0", 11),
];
