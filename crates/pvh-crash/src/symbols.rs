//! The nearest symbol of an address, from the symbol table of the kernel's ELF.

use std::fmt::Write as _;

/// The bytes of an ELF file.
pub trait ElfBytes {
    /// Fills `buf` with the bytes at `offset`; returns whether all are there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> bool;
}

impl ElfBytes for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        let start = usize::try_from(offset).ok();
        let rest = start.and_then(|start| self.get(start..));
        let Some(bytes) = rest.and_then(|rest| rest.get(..buf.len())) else {
            return false;
        };
        buf.copy_from_slice(bytes);
        true
    }
}

/// The symbols of an ELF file, by address.
///
/// At most 1048576 symbols and 32 MiB of names are kept; the file is hostile.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Address, and place of the name.
    by_address: Vec<(u64, u32)>,
    names: Vec<u8>,
}

/// Where the fields of a class are: ELF32 or ELF64.
#[derive(Clone, Copy)]
struct Layout {
    is_wide: bool,
}

/// A section: type, link, offset, size, entry size.
struct Section {
    kind: u32,
    link: u32,
    offset: u64,
    size: u64,
}

impl Symbols {
    /// Reads the symbol table; `None` if the file has none, or a malformed one.
    #[must_use]
    pub fn read(elf: &dyn ElfBytes) -> Option<Self> {
        let mut ident = [0; 6];
        if !elf.read_at(0, &mut ident) || !ident.starts_with(b"\x7FELF") {
            return None;
        }
        let layout = match ident {
            [.., 1, 1] => Layout { is_wide: false },
            [.., 2, 1] => Layout { is_wide: true },
            _ => return None,
        };
        let count = layout.section_count(elf)?;
        let sections = (0..count).map_while(|index| layout.section(elf, index));
        let table = sections
            .into_iter()
            .find(|section| section.kind == SHT_SYMTAB)?;
        let names = layout.section(elf, table.link)?;
        let len = usize::try_from(names.size.min(NAMES_MAX)).ok()?;
        let mut text = vec![0; len];
        if !elf.read_at(names.offset, &mut text) {
            return None;
        }
        let mut by_address = layout.symbols(elf, &table);
        by_address.sort_unstable();
        Some(Self {
            by_address,
            names: text,
        })
    }

    /// Returns the symbol at or before an address, and the distance from it; `None` if it is more
    /// than 1 MiB away.
    #[must_use]
    pub fn nearest(&self, address: u64) -> Option<(&str, u64)> {
        let end = self.by_address.partition_point(|(at, _)| *at <= address);
        let (at, name) = self.by_address.get(end.checked_sub(1)?)?;
        let distance = address.checked_sub(*at).filter(|far| *far < DISTANCE_MAX)?;
        let rest = self.names.get(usize::try_from(*name).ok()?..)?;
        let len = rest.iter().take(NAME_MAX).position(|&byte| byte == 0)?;
        let name = std::str::from_utf8(rest.get(..len)?).ok()?;
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then_some((name, distance))
    }

    /// Returns an address with its symbol, as far as there is one: `0x1000 (start+0x10)`.
    #[must_use]
    pub fn describe(&self, address: u64) -> String {
        let mut text = format!("{address:#x}");
        if let Some((name, distance)) = self.nearest(address) {
            // A String accepts everything.
            let _ = write!(text, " ({name}+{distance:#x})");
        }
        text
    }
}

impl Layout {
    fn section_count(self, elf: &dyn ElfBytes) -> Option<u32> {
        let at = if self.is_wide { 60 } else { 48 };
        Some(word(elf, at, 2)?.min(SECTIONS_MAX)).and_then(|count| u32::try_from(count).ok())
    }

    fn section(self, elf: &dyn ElfBytes, index: u32) -> Option<Section> {
        let (table, size) = match self.is_wide {
            true => (word(elf, 40, 8)?, 64_u64),
            false => (word(elf, 32, 4)?, 40),
        };
        let at = table.checked_add(size.checked_mul(index.into())?)?;
        let field = |wide: u64, narrow: u64, len_wide: usize| match self.is_wide {
            true => word(elf, at.checked_add(wide)?, len_wide),
            false => word(elf, at.checked_add(narrow)?, 4),
        };
        Some(Section {
            kind: u32::try_from(field(4, 4, 4)?).ok()?,
            link: u32::try_from(field(40, 24, 4)?).ok()?,
            offset: field(24, 16, 8)?,
            size: field(32, 20, 8)?,
        })
    }

    /// Reads the symbols of code and of no type, in pieces.
    fn symbols(self, elf: &dyn ElfBytes, table: &Section) -> Vec<(u64, u32)> {
        let size = if self.is_wide { 24_usize } else { 16 };
        let mut found = Vec::new();
        let count = table.size.checked_div(size as u64).unwrap_or(0);
        let mut piece = vec![0; size.saturating_mul(PIECE)];
        let mut done = 0_u64;
        while done < count && found.len() < SYMBOLS_MAX {
            let now = count.saturating_sub(done).min(PIECE as u64);
            let len = size.saturating_mul(usize::try_from(now).unwrap_or(0));
            let at = done
                .saturating_mul(size as u64)
                .saturating_add(table.offset);
            let Some(bytes) = piece.get_mut(..len).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if !elf.read_at(at, bytes) {
                break;
            }
            let symbols = bytes.chunks_exact(size);
            found.extend(symbols.filter_map(|symbol| self.symbol(symbol)));
            done = done.saturating_add(now);
        }
        found.truncate(SYMBOLS_MAX);
        found
    }

    fn symbol(self, bytes: &[u8]) -> Option<(u64, u32)> {
        let name = little(bytes.get(..4)?);
        let (info, value) = match self.is_wide {
            true => (*bytes.get(4)?, little(bytes.get(8..16)?)),
            false => (*bytes.get(12)?, little(bytes.get(4..8)?)),
        };
        // STT_NOTYPE, STT_OBJECT and STT_FUNC.
        let is_wanted = info & 0xF <= 2 && value != 0 && name != 0;
        is_wanted.then_some((value, u32::try_from(name).ok()?))
    }
}

fn word(elf: &dyn ElfBytes, at: u64, len: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    let place = bytes.get_mut(..len)?;
    elf.read_at(at, place).then_some(u64::from_le_bytes(bytes))
}

fn little(bytes: &[u8]) -> u64 {
    let low = bytes.iter().rev();
    low.fold(0, |word, &byte| word << 8 | u64::from(byte))
}

const SHT_SYMTAB: u32 = 2;
const SECTIONS_MAX: u64 = 4096;
/// A Linux kernel has 200,000 symbols with 4 MiB of names.
const SYMBOLS_MAX: usize = 1 << 20;
const NAMES_MAX: u64 = 32 << 20;
const NAME_MAX: usize = 200;
const DISTANCE_MAX: u64 = 1 << 20;
const PIECE: usize = 4096;
