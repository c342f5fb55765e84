//! Writes an ELF32 file again as ELF64, because some loaders take nothing else.
//!
//! The code stays 32-bit code. Headers grow; segments keep their addresses and bytes.

use std::{fs, path::Path};

/// Replaces the ELF32 file by an ELF64 file. The error is printed for the user of Cargo.
pub(crate) fn rewrite(path: &Path) -> Result<(), String> {
    let file = fs::read(path).map_err(|error| error.to_string())?;
    let wide = widen(&file).ok_or("the linker's file is not a static ELF32 file")?;
    fs::write(path, wide).map_err(|error| error.to_string())
}

/// A program header of either class.
#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: usize,
    address: u32,
    file_bytes: usize,
    memory_bytes: u32,
}

fn u16_at(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    let bytes = file.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let table = usize::try_from(u32_at(file, 28)?).ok()?;
    let (entry_bytes, count) = (u16_at(file, 42)?, u16_at(file, 44)?);
    let segment = |index: usize| {
        let at = index.checked_mul(entry_bytes)?.checked_add(table)?;
        let field = |number: usize| u32_at(file, at.checked_add(number.checked_mul(4)?)?);
        Some(Segment {
            kind: field(0)?,
            offset: usize::try_from(field(1)?).ok()?,
            address: field(3)?,
            file_bytes: usize::try_from(field(4)?).ok()?,
            memory_bytes: field(5)?,
            flags: field(6)?,
        })
    };
    (0..count).map(segment).collect()
}

/// Returns the ELF64 file: the header, the program headers, then the bytes of each loaded segment.
/// A note lies in a loaded segment, and keeps its place in it.
fn widen(file: &[u8]) -> Option<Vec<u8>> {
    if file.get(..5)? != b"\x7FELF\x01" {
        return None;
    }
    let old = segments(file)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut places = Vec::new();
    let start = HEADER_BYTES.checked_add(old.len().checked_mul(SEGMENT_BYTES)?)?;
    for segment in old.iter().filter(|segment| segment.kind == PT_LOAD) {
        let end = segment.offset.checked_add(segment.file_bytes)?;
        places.push((*segment, start.checked_add(bytes.len())?));
        bytes.extend(file.get(segment.offset..end)?);
    }
    let place = |segment: &Segment| {
        places.iter().find_map(|(load, place)| {
            let within = segment.offset.checked_sub(load.offset)?;
            let end = within.checked_add(segment.file_bytes)?;
            (end <= load.file_bytes).then(|| place.checked_add(within))?
        })
    };
    let mut wide = header(u32_at(file, 24)?, u16::try_from(old.len()).ok()?);
    for segment in &old {
        wide.extend(program_header(segment, place(segment)?)?);
    }
    wide.extend(bytes);
    Some(wide)
}

fn header(entry: u32, segments: u16) -> Vec<u8> {
    let mut header = b"\x7FELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend(2_u16.to_le_bytes()); // ET_EXEC
    header.extend(62_u16.to_le_bytes()); // EM_X86_64
    header.extend(1_u32.to_le_bytes());
    header.extend(u64::from(entry).to_le_bytes());
    header.extend(64_u64.to_le_bytes()); // The program headers follow this header.
    header.extend(0_u64.to_le_bytes()); // No section headers.
    header.extend(0_u32.to_le_bytes());
    for field in [64, 56, segments, 64, 0, 0] {
        header.extend(field.to_le_bytes());
    }
    header
}

fn program_header(segment: &Segment, offset: usize) -> Option<Vec<u8>> {
    let mut header = [segment.kind.to_le_bytes(), segment.flags.to_le_bytes()].concat();
    let sizes = [
        u64::try_from(offset).ok()?,
        segment.address.into(),
        segment.address.into(),
        u64::try_from(segment.file_bytes).ok()?,
        segment.memory_bytes.into(),
        0, // No alignment: linux-loader refuses all but multiples of 2 MiB.
    ];
    header.extend(sizes.into_iter().flat_map(u64::to_le_bytes));
    Some(header)
}

const PT_LOAD: u32 = 1;
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
