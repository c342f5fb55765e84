//! The start info: read from hostile memory, and written and read back.

use std::cell::RefCell;

use pvh_abi::{
    Gpa,
    start_info::{MemmapKind, StartInfoFlags},
};
use pvh_start_info::{
    Builder, Generation, MemmapRange, Module, ReadError, StartInfo, read, read_cmdline,
};

use crate::{
    bytes::{field, is_printable, slice},
    tape::Tape,
};

/// The most entries of a table that are read.
const LIMIT: u32 = 12;

/// Memory that records every read.
struct Fetched<'a> {
    bytes: &'a [u8],
    base: u64,
    log: RefCell<Vec<(u64, u64)>>,
}

impl Fetched<'_> {
    fn fetch(&self, at: Gpa, buf: &mut [u8]) -> Result<(), NotThere> {
        let len = buf.len() as u64;
        assert!(
            at.0.checked_add(len.saturating_sub(1)).is_some(),
            "{at}: it wraps"
        );
        self.log.borrow_mut().push((at.0, len));
        let offset = at.0.wrapping_sub(self.base);
        let found = slice(self.bytes, offset, len).ok_or(NotThere)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    /// Asserts that one walk read no byte twice.
    fn take_log(&self) -> Vec<(u64, u64)> {
        let log = std::mem::take(&mut *self.log.borrow_mut());
        let mut sorted = log.clone();
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            let end = u128::from(pair[0].0) + u128::from(pair[0].1);
            assert!(end <= u128::from(pair[1].0), "fetched twice: {pair:x?}");
        }
        log
    }

    fn field(&self, at: u64, size: usize) -> Option<u64> {
        field(self.bytes, at.wrapping_sub(self.base), size)
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no memory there")]
pub(super) struct NotThere;

/// Reads a structure, and all that it points to, from memory with any content.
///
/// The first bytes give the generation, the address of the memory and the offset of the structure.
///
/// # Panics
///
/// If a byte is read twice, if a walk is longer than its limit, if an address range wraps, or if a
/// field differs from memory.
pub fn start_info_read(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let generation = generation(tape.byte());
    let base = tape.address();
    let at = base.wrapping_add(u64::from(tape.byte()));
    let memory = Fetched {
        bytes: tape.rest(),
        base,
        log: RefCell::default(),
    };
    let fetch = |at: Gpa, buf: &mut [u8]| memory.fetch(at, buf);
    let info = match read(generation, Gpa(at), fetch) {
        Ok(info) => info,
        Err(error) => {
            is_printable(&error);
            let magic = memory.field(at, 4);
            let is_magic = magic == Some(0x336e_c578) && at != 0;
            assert!(
                !is_magic || matches!(error, ReadError::Fetch { .. } | ReadError::PastEnd { .. }),
                "{error}"
            );
            return;
        }
    };
    memory.take_log();
    check_head(generation, at, &memory, &info);
    check_modules(generation, &memory, &info);
    memory.take_log();
    check_memmap(&memory, &info);
    memory.take_log();
    cmdline(&memory, info.cmdline);
}

fn check_modules(generation: Generation, memory: &Fetched<'_>, info: &StartInfo) {
    if let Ok(entries) = info.modules(LIMIT, |at, buf| memory.fetch(at, buf)) {
        let size = if generation == Generation::Draft {
            8
        } else {
            32
        };
        let table = info.module_table.paddr.map_or(0, |at| at.0);
        let mut count = 0;
        for (entry, index) in entries.zip(0_u64..) {
            count += 1;
            let Ok(module) = entry else { continue };
            let (at, word) = (table + index * size, if size == 8 { 4 } else { 8 });
            assert_eq!(memory.field(at, word), Some(module.paddr.0));
            let len = memory.field(at + word as u64, word);
            assert_eq!(len, Some(module.size_bytes));
            assert_ne!(module.paddr, Gpa(0));
            does_not_wrap(module.paddr, module.size_bytes);
            cmdline(memory, module.cmdline);
        }
        assert_eq!(count, info.module_table.entries);
        assert!(count <= LIMIT);
    }
}

fn check_memmap(memory: &Fetched<'_>, info: &StartInfo) {
    if let Ok(entries) = info.memmap(LIMIT, |at, buf| memory.fetch(at, buf)) {
        let table = info.memmap_table.paddr.map_or(0, |at| at.0);
        for (entry, index) in entries.zip(0_u64..) {
            let Ok(entry) = entry else { continue };
            let at = table + index * 24;
            assert_eq!(memory.field(at, 8), Some(entry.range.start.0));
            assert_eq!(memory.field(at + 8, 8), Some(entry.range.len_bytes));
            let kind = Some(u64::from(entry.range.kind.0));
            assert_eq!(memory.field(at + 16, 4), kind);
            does_not_wrap(entry.range.start, entry.range.len_bytes);
        }
    }
}

fn check_head(generation: Generation, at: u64, memory: &Fetched<'_>, info: &StartInfo) {
    let address = |value: Option<u64>| value.filter(|&value| value != 0).map(Gpa);
    let word = |offset, size| memory.field(at + offset, size);
    assert_eq!(word(0, 4), Some(0x336e_c578));
    let count = Some(u64::from(info.module_table.entries));
    if generation == Generation::Draft {
        assert_eq!((info.version, info.rsdp), (None, None));
        assert_eq!(Some(u64::from(info.flags.0)), word(4, 4));
        assert_eq!(info.cmdline, address(word(8, 4)));
        assert_eq!(count, word(12, 4));
        assert_eq!(info.module_table.paddr, address(word(16, 4)));
        assert_eq!(info.memmap_table.entries, 0);
        return;
    }
    assert_eq!(info.version.map(u64::from), word(4, 4));
    assert_eq!(Some(u64::from(info.flags.0)), word(8, 4));
    assert_eq!(count, word(12, 4));
    assert_eq!(info.module_table.paddr, address(word(16, 8)));
    assert_eq!(info.cmdline, address(word(24, 8)));
    assert_eq!(info.rsdp, address(word(32, 8)));
    let has_memmap = generation == Generation::V1 && info.version >= Some(1);
    let memmap = match has_memmap {
        true => (address(word(40, 8)), word(48, 4)),
        false => (None, Some(0)),
    };
    let entries = Some(u64::from(info.memmap_table.entries));
    assert_eq!((info.memmap_table.paddr, entries), memmap);
}

fn does_not_wrap(at: Gpa, len_bytes: u64) {
    let last = at.0.checked_add(len_bytes.saturating_sub(1));
    assert!(last.is_some(), "{at} and {len_bytes:#x} bytes wrap");
}

fn cmdline(memory: &Fetched<'_>, at: Option<Gpa>) {
    let Some(at) = at else { return };
    let outer = std::mem::take(&mut *memory.log.borrow_mut());
    let mut buf = [0; 40];
    let fetch = |at: Gpa, buf: &mut [u8]| memory.fetch(at, buf);
    let line = read_cmdline(at, &mut buf, fetch).map(<[u8]>::to_vec);
    let fetched = memory.take_log();
    assert!(fetched.len() <= 41, "past the limit");
    let byte = |index: u64| memory.field(at.0.wrapping_add(index), 1);
    if let Ok(line) = line {
        assert!(!line.contains(&0));
        let stands = line
            .iter()
            .zip(0..)
            .all(|(&is, at)| byte(at) == Some(is.into()));
        assert!(stands && byte(line.len() as u64) == Some(0));
        assert_eq!(fetched.len(), line.len() + 1, "past the NUL");
    }
    *memory.log.borrow_mut() = outer;
}

fn generation(byte: u8) -> Generation {
    match byte % 3 {
        0 => Generation::V1,
        1 => Generation::V0,
        _ => Generation::Draft,
    }
}

/// The values for a builder.
struct Asked<'a> {
    generation: Generation,
    at: u64,
    cmdline: Option<&'a [u8]>,
    modules: Vec<Module<'a>>,
    memmap: Vec<MemmapRange>,
    rsdp: Option<Gpa>,
    flags: StartInfoFlags,
    room: usize,
}

/// Builds a block, reads it back, and compares.
///
/// # Panics
///
/// If a value read differs from the value written, if a byte is undefined or is written after the
/// block, if a refused block has changed the buffer, or if the builder refuses something valid.
pub fn start_info_roundtrip(bytes: &[u8]) {
    let asked = Asked::read(&mut Tape::new(bytes));
    let mut builder = Builder::new(asked.generation)
        .flags(asked.flags)
        .modules(&asked.modules)
        .memmap(&asked.memmap);
    if let Some(line) = asked.cmdline {
        builder = builder.cmdline(line);
    }
    if let Some(rsdp) = asked.rsdp {
        builder = builder.rsdp(rsdp);
    }
    let is_sayable = asked.is_sayable();
    let size = builder.size_bytes();
    assert_eq!(size.is_ok(), is_sayable, "{size:?}");
    let mut blocks = [0x00, 0xff].map(|fill| vec![fill; asked.room]);
    let written = blocks
        .each_mut()
        .map(|block| builder.write(Gpa(asked.at), block));
    assert_eq!(written[0], written[1]);
    let [block, other] = &blocks;
    let size = match (written[0], size) {
        (Ok(written), Ok(size)) => {
            assert_eq!(written as u64, size);
            assert!(size.is_multiple_of(8) && asked.at != 0 && asked.at.is_multiple_of(8));
            assert!(asked.at + size <= 1 << 32, "ebx cannot point there");
            written
        }
        (Ok(_), Err(error)) => panic!("written though {error}"),
        (Err(error), size) => {
            is_printable(&error);
            assert!(block.iter().all(|&byte| byte == 0));
            assert!(other.iter().all(|&byte| byte == 0xff));
            let Ok(size) = size else { return };
            let is_placeable = asked.at != 0
                && asked.at.is_multiple_of(8)
                && asked.at.checked_add(size).is_some_and(|end| end <= 1 << 32)
                && asked.room as u64 >= size;
            assert!(!is_placeable, "{error}");
            return;
        }
    };
    assert_eq!(block[..size], other[..size], "a byte is not defined");
    assert!(block[size..].iter().all(|&byte| byte == 0));
    assert!(other[size..].iter().all(|&byte| byte == 0xff));
    asked.check(&block[..size]);
}

impl<'a> Asked<'a> {
    fn read(tape: &mut Tape<'a>) -> Self {
        let shape = tape.byte();
        let at = tape.address();
        let room = usize::from(tape.half() & 0x7ff);
        let module = |tape: &mut Tape<'a>| Module {
            paddr: Gpa(tape.address()),
            size_bytes: tape.address(),
            cmdline: match tape.byte() {
                0..=99 => None,
                len => Some(tape.bytes(usize::from(len - 100))),
            },
        };
        let range = |tape: &mut Tape<'a>| MemmapRange {
            start: Gpa(tape.address()),
            len_bytes: tape.address(),
            kind: MemmapKind(u32::from(tape.byte())),
        };
        let modules = (0..shape >> 2 & 7).map(|_| module(tape)).collect();
        let memmap = (0..shape >> 5).map(|_| range(tape)).collect();
        let rsdp = tape.flag().then(|| Gpa(tape.address()));
        let flags = StartInfoFlags(u32::from(tape.byte()));
        let cmdline = match tape.byte() {
            0..=49 => None,
            len => Some(tape.bytes(usize::from(len - 50))),
        };
        Self {
            generation: generation(shape & 3),
            at,
            cmdline,
            modules,
            memmap,
            rsdp,
            flags,
            room,
        }
    }

    /// Tells whether the generation has fields for the values, and no value has a NUL, address 0 or
    /// a range that wraps.
    fn is_sayable(&self) -> bool {
        let is_draft = self.generation == Generation::Draft;
        let has_nul = |line: Option<&[u8]>| line.is_some_and(|line| line.contains(&0));
        let wraps = |at: Gpa, len: u64| at.0.checked_add(len.saturating_sub(1)).is_none();
        let is_high = |at: Gpa, len: u64| {
            let last = at.0.checked_add(len.saturating_sub(1));
            last.is_none_or(|last| last > 0xffff_ffff)
        };
        let is_fine = |module: &Module<'_>| {
            let Module {
                paddr,
                size_bytes,
                cmdline,
            } = *module;
            let is_in_draft = cmdline.is_none() && !is_high(paddr, size_bytes);
            !has_nul(cmdline)
                && paddr != Gpa(0)
                && !wraps(paddr, size_bytes)
                && (!is_draft || is_in_draft)
        };
        !has_nul(self.cmdline)
            && self.modules.iter().all(is_fine)
            && self
                .memmap
                .iter()
                .all(|range| !wraps(range.start, range.len_bytes))
            && (self.generation == Generation::V1 || self.memmap.is_empty())
            && self.rsdp != Some(Gpa(0))
            && (!is_draft || self.rsdp.is_none())
    }

    fn check(&self, block: &[u8]) {
        let fetch = |at: Gpa, buf: &mut [u8]| -> Result<(), NotThere> {
            let offset = at.0.checked_sub(self.at).ok_or(NotThere)?;
            let found = slice(block, offset, buf.len() as u64);
            buf.copy_from_slice(found.ok_or(NotThere)?);
            Ok(())
        };
        let line = |at: Option<Gpa>| {
            at.map(|at| {
                let mut buf = [0; 256];
                let line = read_cmdline(at, &mut buf, fetch);
                line.expect("lines are short").to_vec()
            })
        };
        let info = read(self.generation, Gpa(self.at), fetch).expect("it was just written");
        assert_eq!(info.flags, self.flags);
        assert_eq!((info.rsdp, info.reserved), (self.rsdp, 0));
        assert_eq!(line(info.cmdline), self.cmdline.map(<[u8]>::to_vec));
        let modules: Vec<_> = info.modules(8, fetch).expect("few").collect();
        assert_eq!(modules.len(), self.modules.len());
        for (is, asked) in modules.into_iter().zip(&self.modules) {
            let is = is.expect("it was just written");
            assert_eq!((is.paddr, is.size_bytes), (asked.paddr, asked.size_bytes));
            assert_eq!(line(is.cmdline), asked.cmdline.map(<[u8]>::to_vec));
            assert_eq!(is.reserved, 0);
        }
        let memmap = info.memmap(8, fetch).expect("few");
        let memmap: Result<Vec<_>, _> = memmap.map(|is| is.map(|is| is.range)).collect();
        assert_eq!(memmap.as_ref(), Ok(&self.memmap));
    }
}
