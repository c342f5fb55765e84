//! Writes the file of an ELF image.

use super::{Class, Elf, Endian, Section, Segment};

/// The alignment of data in the file, in bytes.
const DATA_ALIGN: u64 = 16;
/// The section type of a string table.
const SHT_STRTAB: u32 = 3;

/// The offsets in the file at which [`Elf::build_with_layout`] put everything.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Each segment's data, in table order.
    pub segments: Vec<u64>,
    /// Each section's data, in the order they were given (index 0 is not the null section).
    pub sections: Vec<u64>,
    /// The program header table, 0 without one.
    pub segment_table: u64,
    /// The section header table, 0 without one.
    pub section_table: u64,
}

/// Writes fields of the file's width and byte order.
struct Out {
    bytes: Vec<u8>,
    class: Class,
    endian: Endian,
}

impl Out {
    fn half(&mut self, value: u16) {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    /// A field as wide as the class; an ELF32 file keeps the low half.
    fn native(&mut self, value: u64) {
        if self.class == Class::Elf32 {
            let [a, b, c, d, ..] = value.to_le_bytes();
            return self.word(u32::from_le_bytes([a, b, c, d]));
        }
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn pad_to(&mut self, offset: u64) {
        let len = usize::try_from(offset).unwrap_or(usize::MAX);
        self.bytes.resize(len, 0);
    }
}

pub(super) fn write(elf: &Elf) -> (Vec<u8>, Layout) {
    let (sections, names_index) = all_sections(&elf.sections);
    let layout = lay_out(elf, &sections);
    let mut out = Out {
        bytes: Vec::new(),
        class: elf.class,
        endian: elf.endian,
    };
    file_header(&mut out, elf, &layout, (count(sections.len()), names_index));
    for (segment, &offset) in elf.segments.iter().zip(&layout.segments) {
        program_header(&mut out, segment, offset);
    }
    let parts = elf.segments.iter().map(|segment| &segment.data);
    let parts = parts.chain(sections.iter().map(|(_, section)| &section.data));
    for (data, &offset) in parts.zip(layout.segments.iter().chain(&layout.sections)) {
        out.pad_to(offset);
        out.bytes.extend(data);
    }
    if !sections.is_empty() {
        out.pad_to(layout.section_table);
        for ((name, section), &offset) in sections.iter().zip(&layout.sections) {
            section_header(&mut out, *name, section, offset);
        }
    }
    out.bytes.extend(&elf.trailer);
    let asked = layout.sections.get(1..).unwrap_or_default();
    let sections = asked.iter().copied().take(elf.sections.len()).collect();
    (out.bytes, Layout { sections, ..layout })
}

/// Returns the null section, the given ones and the name table, each with the offset of its name.
fn all_sections(given: &[Section]) -> (Vec<(u32, Section)>, u16) {
    if given.is_empty() {
        return (Vec::new(), 0);
    }
    let mut names = vec![0_u8];
    let mut all = vec![(0, Section::default())];
    let mut table = Section {
        name: ".shstrtab".to_owned(),
        kind: SHT_STRTAB,
        align: 1,
        ..Section::default()
    };
    for section in given.iter().chain([&table]) {
        let at = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.extend(section.name.bytes().chain([0]));
        all.push((at, section.clone()));
    }
    table.data = names;
    if let Some((_, last)) = all.last_mut() {
        *last = table;
    }
    let index = count(all.len()).saturating_sub(1);
    (all, index)
}

fn lay_out(elf: &Elf, sections: &[(u32, Section)]) -> Layout {
    let header = u64::from(elf.class.header_size());
    let table = u64::from(elf.class.segment_size()).saturating_mul(elf.segments.len() as u64);
    let mut at = header.saturating_add(table);
    let mut place = |data: &Vec<u8>| {
        let start = at.next_multiple_of(DATA_ALIGN);
        at = start.saturating_add(data.len() as u64);
        start
    };
    Layout {
        segments: elf.segments.iter().map(|s| place(&s.data)).collect(),
        sections: sections.iter().map(|(_, s)| place(&s.data)).collect(),
        segment_table: if elf.segments.is_empty() { 0 } else { header },
        section_table: if sections.is_empty() {
            0
        } else {
            at.next_multiple_of(DATA_ALIGN)
        },
    }
}

fn file_header(out: &mut Out, elf: &Elf, layout: &Layout, sections: (u16, u16)) {
    let say = &elf.header;
    let class = match elf.class {
        Class::Elf32 => 1,
        Class::Elf64 => 2,
    };
    let data = match elf.endian {
        Endian::Little => 1,
        Endian::Big => 2,
    };
    out.bytes.extend(say.magic.unwrap_or(*b"\x7fELF"));
    let ident = [
        say.ident_class.unwrap_or(class),
        say.ident_data.unwrap_or(data),
        1,
    ];
    out.bytes.extend(ident);
    out.pad_to(16);
    out.half(elf.kind);
    out.half(elf.machine);
    out.word(1);
    out.native(elf.entry);
    out.native(say.segments_offset.unwrap_or(layout.segment_table));
    out.native(say.sections_offset.unwrap_or(layout.section_table));
    out.word(0);
    out.half(say.header_size.unwrap_or(elf.class.header_size()));
    out.half(say.segment_size.unwrap_or(elf.class.segment_size()));
    out.half(say.segment_count.unwrap_or(count(elf.segments.len())));
    out.half(say.section_size.unwrap_or(elf.class.section_size()));
    out.half(say.section_count.unwrap_or(sections.0));
    out.half(say.names_index.unwrap_or(sections.1));
}

fn program_header(out: &mut Out, segment: &Segment, offset: u64) {
    let len = segment.data.len() as u64;
    out.word(segment.kind);
    if out.class == Class::Elf64 {
        out.word(segment.flags);
    }
    out.native(segment.offset.unwrap_or(offset));
    out.native(segment.vaddr);
    out.native(segment.paddr);
    out.native(segment.file_size.unwrap_or(len));
    out.native(segment.mem_size.unwrap_or(len));
    if out.class == Class::Elf32 {
        out.word(segment.flags);
    }
    out.native(segment.align);
}

fn section_header(out: &mut Out, name: u32, section: &Section, offset: u64) {
    let is_null = section.kind == 0;
    out.word(name);
    out.word(section.kind);
    out.native(section.flags);
    out.native(section.addr);
    out.native(section.offset.unwrap_or(if is_null { 0 } else { offset }));
    out.native(section.size.unwrap_or(section.data.len() as u64));
    out.word(0);
    out.word(0);
    out.native(section.align);
    out.native(0);
}

fn count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
