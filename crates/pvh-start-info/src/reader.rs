//! Reads a start info structure out of untrusted memory.

use pvh_abi::{
    Gpa,
    start_info::{
        MemmapEntry, MemmapKind, ModuleEntry, ModuleEntryDraft, START_INFO_MAGIC, StartInfoDraft,
        StartInfoFlags, StartInfoV0, StartInfoV1,
    },
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{Generation, MemmapRange, ReadError, TableKind, checks::last_byte};

/// A start info structure as a guest finds it. The tables and strings that it points to have not
/// been read yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StartInfo {
    /// The version field; `None` for the draft, which has none.
    ///
    /// It may be above 1: newer versions only append fields, so the fields here keep their meaning.
    pub version: Option<u32>,
    /// The flags.
    pub flags: StartInfoFlags,
    /// The command line, if there is one; see [`read_cmdline`].
    pub cmdline: Option<Gpa>,
    /// The RSDP, if there is one.
    pub rsdp: Option<Gpa>,
    /// The module table; see [`modules`](Self::modules).
    pub module_table: Table,
    /// The memory map table; see [`memmap`](Self::memmap).
    pub memmap_table: Table,
    /// The reserved field of version 1, as found; it must be 0. It is 0 in generations without the
    /// field.
    pub reserved: u32,
    /// The size of a module table entry depends on it.
    generation: Generation,
}

/// A count and an address, as found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// Where it begins; `None` if the address is 0.
    pub paddr: Option<Gpa>,
    /// The number of entries.
    pub entries: u32,
}

/// An entry of the module table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ModuleRecord {
    /// The address of the module; never 0.
    pub paddr: Gpa,
    /// Its length in bytes; it does not run past the end of the address space.
    pub size_bytes: u64,
    /// Its command line, if there is one; see [`read_cmdline`].
    pub cmdline: Option<Gpa>,
    /// The reserved field, as found; it must be 0. It is 0 in the draft, which has no such field.
    pub reserved: u64,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MemmapRecord {
    /// The range; it does not run past the end of the address space.
    pub range: MemmapRange,
    /// The reserved field, as found; it must be 0.
    pub reserved: u32,
}

/// Reads the structure at `at` and copies it; each byte is read once.
///
/// `generation` is the newest generation that the caller wants. A structure of version 0 read as
/// [`Generation::V1`] has no memory map; a structure of a later version read as [`Generation::V0`]
/// is read as far as version 0 goes. A draft is read only if the caller says so; it is never
/// guessed.
///
/// # Errors
///
/// [`ReadError::AtZero`], [`ReadError::PastEnd`], [`ReadError::Fetch`] and [`ReadError::Magic`].
pub fn read<E>(
    generation: Generation,
    at: Gpa,
    fetch: impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<StartInfo, ReadError<E>> {
    if at == Gpa(0) {
        return Err(ReadError::AtZero);
    }
    if generation == Generation::Draft {
        return read_draft(at, &fetch);
    }
    let mut info = StartInfoV1::new_zeroed();
    fetch_into(at, info.v0.as_mut_bytes(), &fetch)?;
    check_magic(at, info.v0.magic.get())?;
    let version = info.v0.version.get();
    if generation == Generation::V1 && version >= 1 {
        let (head, tail) = info.as_mut_bytes().split_at_mut(size_of::<StartInfoV0>());
        let len_bytes = size_of::<StartInfoV1>() as u64;
        let tail_at = at.checked_add(head.len() as u64);
        let tail_at = tail_at.ok_or(ReadError::PastEnd { at, len_bytes })?;
        fetch_into(tail_at, tail, &fetch)?;
    }
    Ok(StartInfo {
        version: Some(version),
        flags: StartInfoFlags(info.v0.flags.get()),
        cmdline: present(info.v0.cmdline_paddr.get()),
        rsdp: present(info.v0.rsdp_paddr.get()),
        module_table: Table {
            paddr: present(info.v0.modlist_paddr.get()),
            entries: info.v0.nr_modules.get(),
        },
        memmap_table: Table {
            paddr: present(info.memmap_paddr.get()),
            entries: info.memmap_entries.get(),
        },
        reserved: info.reserved.get(),
        generation,
    })
}

/// Reads the NUL-terminated command line at `at` into `buf` and returns it without the NUL.
///
/// `buf` is the limit: a line may have up to `buf.len()` bytes without its NUL. The bytes are
/// fetched one at a time, so that nothing after the NUL is read; RAM may end there.
///
/// # Errors
///
/// [`ReadError::LineTooLong`] if there is no NUL within the limit or before the end of the address
/// space, and [`ReadError::Fetch`].
pub fn read_cmdline<E>(
    at: Gpa,
    buf: &mut [u8],
    fetch: impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<&[u8], ReadError<E>> {
    let limit_bytes = buf.len();
    let mut here = Some(at);
    for len in 0..=limit_bytes {
        let too_long = ReadError::LineTooLong { at, limit_bytes };
        let Some(now) = here else {
            return Err(too_long);
        };
        let mut byte = [0];
        fetch_into(now, &mut byte, &fetch)?;
        if byte == [0] {
            return Ok(buf.get(..len).unwrap_or_default());
        }
        match buf.get_mut(len) {
            Some(slot) => [*slot] = byte,
            None => return Err(too_long),
        }
        here = now.checked_add(1);
    }
    Err(ReadError::LineTooLong { at, limit_bytes })
}

impl StartInfo {
    /// Walks the module table, at most `limit` entries long; each entry is fetched once, when the
    /// iterator reaches it.
    ///
    /// # Errors
    ///
    /// [`ReadError::TableAbsent`], [`ReadError::TooManyEntries`] and [`ReadError::TableOverflow`];
    /// an item can be [`ReadError::Fetch`], [`ReadError::ModuleAtZero`] or
    /// [`ReadError::EntryOverflow`].
    pub fn modules<E, F: Fn(Gpa, &mut [u8]) -> Result<(), E>>(
        &self,
        limit: u32,
        fetch: F,
    ) -> Result<impl Iterator<Item = Result<ModuleRecord, ReadError<E>>> + use<E, F>, ReadError<E>>
    {
        let generation = self.generation;
        let entry_size_bytes = generation.module_entry_size_bytes();
        let entries = self
            .module_table
            .walk(TableKind::Modules, entry_size_bytes, limit)?;
        Ok(entries.map(move |(index, at)| read_module(generation, index, at, &fetch)))
    }

    /// Walks the memory map, at most `limit` entries long; each entry is fetched once, when the
    /// iterator reaches it.
    ///
    /// It is empty for a structure without a memory map.
    ///
    /// # Errors
    ///
    /// As for [`modules`](Self::modules).
    pub fn memmap<E, F: Fn(Gpa, &mut [u8]) -> Result<(), E>>(
        &self,
        limit: u32,
        fetch: F,
    ) -> Result<impl Iterator<Item = Result<MemmapRecord, ReadError<E>>> + use<E, F>, ReadError<E>>
    {
        let entry_size_bytes = size_of::<MemmapEntry>() as u64;
        let entries = self
            .memmap_table
            .walk(TableKind::Memmap, entry_size_bytes, limit)?;
        Ok(entries.map(move |(index, at)| read_range(index, at, &fetch)))
    }
}

impl Table {
    /// Checks the table as a whole, and returns index and address of each entry.
    fn walk<E>(
        self,
        table: TableKind,
        entry_size_bytes: u64,
        limit: u32,
    ) -> Result<impl Iterator<Item = (u32, Gpa)> + use<E>, ReadError<E>> {
        let entries = self.entries;
        if entries > limit {
            return Err(ReadError::TooManyEntries {
                table,
                entries,
                limit,
            });
        }
        let paddr = match self.paddr {
            Some(paddr) => paddr,
            None if entries == 0 => Gpa(0),
            None => return Err(ReadError::TableAbsent { table, entries }),
        };
        let len_bytes = u64::from(entries).saturating_mul(entry_size_bytes);
        if last_byte(paddr, len_bytes).is_none() {
            return Err(ReadError::TableOverflow {
                table,
                paddr,
                entries,
            });
        }
        // no sum saturates, because the last byte of the last entry has an address
        let offset_of = move |index: u32| u64::from(index).saturating_mul(entry_size_bytes);
        let address_of = move |index| Gpa(paddr.0.saturating_add(offset_of(index)));
        Ok((0..entries).map(move |index| (index, address_of(index))))
    }
}

fn read_draft<E>(
    at: Gpa,
    fetch: &impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<StartInfo, ReadError<E>> {
    let mut info = StartInfoDraft::new_zeroed();
    fetch_into(at, info.as_mut_bytes(), fetch)?;
    check_magic(at, info.magic.get())?;
    Ok(StartInfo {
        version: None,
        flags: StartInfoFlags(info.flags.get()),
        cmdline: present(info.cmdline_paddr.get().into()),
        rsdp: None,
        module_table: Table {
            paddr: present(info.modlist_paddr.get().into()),
            entries: info.nr_modules.get(),
        },
        memmap_table: Table::default(),
        reserved: 0,
        generation: Generation::Draft,
    })
}

fn read_module<E>(
    generation: Generation,
    index: u32,
    at: Gpa,
    fetch: &impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<ModuleRecord, ReadError<E>> {
    let module = if generation == Generation::Draft {
        let mut entry = ModuleEntryDraft::new_zeroed();
        fetch_into(at, entry.as_mut_bytes(), fetch)?;
        ModuleRecord {
            paddr: Gpa(entry.paddr.get().into()),
            size_bytes: entry.size.get().into(),
            cmdline: None,
            reserved: 0,
        }
    } else {
        let mut entry = ModuleEntry::new_zeroed();
        fetch_into(at, entry.as_mut_bytes(), fetch)?;
        ModuleRecord {
            paddr: Gpa(entry.paddr.get()),
            size_bytes: entry.size.get(),
            cmdline: present(entry.cmdline_paddr.get()),
            reserved: entry.reserved.get(),
        }
    };
    if module.paddr == Gpa(0) {
        return Err(ReadError::ModuleAtZero { index });
    }
    check_entry(TableKind::Modules, index, module.paddr, module.size_bytes)?;
    Ok(module)
}

fn read_range<E>(
    index: u32,
    at: Gpa,
    fetch: &impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<MemmapRecord, ReadError<E>> {
    let mut entry = MemmapEntry::new_zeroed();
    fetch_into(at, entry.as_mut_bytes(), fetch)?;
    let range = MemmapRange {
        start: Gpa(entry.addr.get()),
        len_bytes: entry.size.get(),
        kind: MemmapKind(entry.kind.get()),
    };
    check_entry(TableKind::Memmap, index, range.start, range.len_bytes)?;
    Ok(MemmapRecord {
        range,
        reserved: entry.reserved.get(),
    })
}

/// Checks that the range does not wrap, and copies `buf.len()` bytes at `at` out of memory.
fn fetch_into<E>(
    at: Gpa,
    buf: &mut [u8],
    fetch: &impl Fn(Gpa, &mut [u8]) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let len_bytes = buf.len() as u64;
    if last_byte(at, len_bytes).is_none() {
        return Err(ReadError::PastEnd { at, len_bytes });
    }
    fetch(at, buf).map_err(|source| ReadError::Fetch {
        at,
        len_bytes,
        source,
    })
}

fn check_magic<E>(at: Gpa, found: u32) -> Result<(), ReadError<E>> {
    if found == START_INFO_MAGIC {
        return Ok(());
    }
    Err(ReadError::Magic { at, found })
}

fn check_entry<E>(
    table: TableKind,
    index: u32,
    at: Gpa,
    len_bytes: u64,
) -> Result<(), ReadError<E>> {
    if last_byte(at, len_bytes).is_some() {
        return Ok(());
    }
    Err(ReadError::EntryOverflow {
        table,
        index,
        at,
        len_bytes,
    })
}

/// Reads an address field; 0 means "absent".
const fn present(paddr: u64) -> Option<Gpa> {
    if paddr == 0 { None } else { Some(Gpa(paddr)) }
}
