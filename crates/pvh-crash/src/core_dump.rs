//! An ELF core of a guest: all RAM by physical and by linear address, and the registers of the
//! vCPUs.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::{GuestMemory, PagingMode, PagingState, WordOp};

use crate::wire::{
    Bytes, HEADER_BYTES, PROGRAM_HEADER_BYTES, PT_LOAD, PT_NOTE, ProgramHeader, elf_header,
    prstatus, qemu_cpu,
};

/// A guest that is written.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "what an embedder has")]
pub struct CoreDump<'a> {
    /// The ranges of RAM, ascending: start and length in bytes.
    pub ram: &'a [(Gpa, u64)],
    /// Guest memory.
    pub memory: &'a dyn GuestMemory,
    /// The vCPUs whose registers are known, the one that crashed first.
    pub vcpus: &'a [(u32, EntryState)],
}

impl std::fmt::Debug for CoreDump<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreDump").finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Dumped {
    /// The length of the file.
    pub len_bytes: u64,
    /// How many bytes of it are not zero pages, and take room.
    pub written_bytes: u64,
    /// Whether the page tables of the first vCPU had more ranges than the core lists.
    pub is_map_cut_short: bool,
}

/// Why a core cannot be written. No file is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The path names no file.
    #[error("the path names no file")]
    NoName,
    /// The temporary file beside it cannot be made.
    #[error("cannot make {}", path.display())]
    Create {
        /// The temporary file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The host refuses to write.
    #[error("cannot write the core")]
    Write(#[source] io::Error),
    /// The file cannot get its name.
    #[error("cannot rename the core to {}", path.display())]
    Rename {
        /// The name.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl CoreDump<'_> {
    /// Writes the core to a file of mode 0600: into a temporary file beside it first, which gets
    /// the name when it is complete. Pages of zeros are holes.
    ///
    /// It takes as long as the RAM takes to be read; nothing else of the machine is needed.
    ///
    /// # Errors
    ///
    /// [`DumpError`]; a file of that name is as before then.
    pub fn write_file(&self, path: &Path) -> Result<Dumped, DumpError> {
        let name = path.file_name().ok_or(DumpError::NoName)?;
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let create = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary);
        let mut file = create.map_err(|source| DumpError::Create {
            path: temporary.clone(),
            source,
        })?;
        let written = self.write_to(&mut file).map_err(DumpError::Write);
        let named = written.and_then(|dumped| {
            let set = file.set_len(dumped.len_bytes).map_err(DumpError::Write);
            set.map(|()| dumped)
        });
        let named = named.and_then(|dumped| {
            let path = path.to_owned();
            let renamed = fs::rename(&temporary, &path);
            renamed.map_err(|source| DumpError::Rename { path, source })?;
            Ok(dumped)
        });
        if named.is_err() {
            // The error is told; a file that cannot be removed stays.
            let _ = fs::remove_file(&temporary);
        }
        named
    }

    /// Writes the core. The caller makes the file [`Dumped::len_bytes`] long: its last pages may be
    /// a hole.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to<W: Write + Seek>(&self, out: &mut W) -> io::Result<Dumped> {
        let mut notes = Bytes::default();
        for (index, (vcpu, state)) in self.vcpus.iter().take(VCPUS_MAX).enumerate() {
            prstatus(
                &mut notes,
                *vcpu,
                if index == 0 { SIGSEGV } else { 0 },
                state,
            );
        }
        for (_, state) in self.vcpus.iter().take(VCPUS_MAX) {
            qemu_cpu(&mut notes, state);
        }
        let state = self.vcpus.first().map(|(_, state)| state);
        let map = state
            .map(|state| self.linear_map(state))
            .unwrap_or_default();
        let ranges = self
            .ram
            .len()
            .saturating_add(map.pieces.len())
            .saturating_add(1);
        let headers = u16::try_from(ranges).unwrap_or(u16::MAX);
        let table = PROGRAM_HEADER_BYTES.saturating_mul(headers.into());
        let notes_at = HEADER_BYTES.saturating_add(table);
        let ram_at = notes_at
            .saturating_add(notes.0.len() as u64)
            .next_multiple_of(PAGE);
        let mut head = elf_header(headers);
        let note = ProgramHeader {
            kind: PT_NOTE,
            offset: notes_at,
            vaddr: 0,
            paddr: 0,
            len_bytes: notes.0.len() as u64,
        };
        note.write_to(&mut head);
        let places = self.places(ram_at);
        for header in map.pieces.iter().filter_map(|piece| piece.header(&places)) {
            header.write_to(&mut head);
        }
        for place in &places {
            place.header(map.is_identity).write_to(&mut head);
        }
        head.0.resize(usize::try_from(notes_at).unwrap_or(0), 0);
        head.0.extend(notes.0);
        out.write_all(&head.0)?;
        let mut written_bytes = head.0.len() as u64;
        let mut end = ram_at;
        for place in &places {
            let written = self.write_range(out, place)?;
            written_bytes = written_bytes.saturating_add(written);
            end = place.offset.saturating_add(place.len_bytes);
        }
        Ok(Dumped {
            len_bytes: end,
            written_bytes,
            is_map_cut_short: map.is_cut_short,
        })
    }

    /// Where the ranges of RAM are in the file.
    fn places(&self, ram_at: u64) -> Vec<Place> {
        let mut offset = ram_at;
        let ranges = self.ram.iter().map(|&(start, len_bytes)| {
            let place = Place {
                start: start.0,
                len_bytes,
                offset,
            };
            offset = offset.saturating_add(len_bytes).next_multiple_of(PAGE);
            place
        });
        ranges.collect()
    }

    /// Writes a range without its zero pages; returns how many bytes were written. A page that
    /// cannot be read is a hole.
    fn write_range<W: Write + Seek>(&self, out: &mut W, place: &Place) -> io::Result<u64> {
        let mut buffer = vec![0; CHUNK];
        let (mut done, mut written) = (0_u64, 0_u64);
        while done < place.len_bytes {
            let left = usize::try_from(place.len_bytes.saturating_sub(done)).unwrap_or(CHUNK);
            let chunk = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
            let at = Gpa(place.start.saturating_add(done));
            let is_read = self.memory.read(at, chunk).is_ok();
            if is_read && chunk.iter().any(|&byte| byte != 0) {
                let offset = place.offset.saturating_add(done);
                out.seek(SeekFrom::Start(offset))?;
                out.write_all(chunk)?;
                written = written.saturating_add(chunk.len() as u64);
            }
            done = done.saturating_add(chunk.len() as u64);
        }
        Ok(written)
    }
}

/// A range of RAM in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    len_bytes: u64,
    offset: u64,
}

impl Place {
    /// Its header: the linear address is the physical one if the guest had no paging; else only
    /// the pieces of the page tables have linear addresses, and this is far away from them.
    fn header(&self, is_identity: bool) -> ProgramHeader {
        ProgramHeader {
            kind: PT_LOAD,
            offset: self.offset,
            vaddr: match is_identity {
                true => self.start,
                false => self.start.wrapping_add(PHYSICAL_BASE),
            },
            paddr: self.start,
            len_bytes: self.len_bytes,
        }
    }
}

/// Linear addresses that lead to physical ones that follow each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Piece {
    linear: u64,
    physical: u64,
    len_bytes: u64,
}

impl Piece {
    fn header(&self, places: &[Place]) -> Option<ProgramHeader> {
        let place = places.iter().find(|place| {
            let offset = self.physical.checked_sub(place.start);
            offset.is_some_and(|offset| offset < place.len_bytes)
        });
        // A place has to be there: pieces are cut to RAM.
        let place = place?;
        let offset = self.physical.saturating_sub(place.start);
        Some(ProgramHeader {
            kind: PT_LOAD,
            offset: place.offset.saturating_add(offset),
            vaddr: self.linear,
            paddr: self.physical,
            len_bytes: self.len_bytes,
        })
    }
}

/// What page tables map, as far as it is RAM.
#[derive(Debug, Default)]
struct LinearMap {
    pieces: Vec<Piece>,
    is_identity: bool,
    is_cut_short: bool,
}

impl CoreDump<'_> {
    /// Lists what the page tables of a vCPU map, in 4-level mode. The work is bounded by
    /// [`TABLES_MAX`] tables and [`PIECES_MAX`] pieces: tables are the guest's, and may be a maze.
    fn linear_map(&self, state: &EntryState) -> LinearMap {
        let paging = PagingState {
            cr0: state.cr0,
            cr3: state.cr3,
            cr4: state.cr4,
            efer: state.efer,
            rflags: state.rflags,
            pkru: 0,
        };
        let mut map = LinearMap::default();
        match paging.mode() {
            PagingMode::FourLevel => {
                let mut tables = 0;
                self.list(&mut map, &mut tables, state.cr3 & ADDRESS, 4, 0);
            }
            mode => map.is_identity = mode == PagingMode::Unpaged,
        }
        map
    }

    fn list(&self, map: &mut LinearMap, tables: &mut u32, table: u64, level: u32, base: u64) {
        *tables = tables.saturating_add(1);
        if *tables > TABLES_MAX {
            map.is_cut_short = true;
            return;
        }
        let shift = level.saturating_sub(1).saturating_mul(9).saturating_add(12);
        for index in 0..512_u64 {
            if map.is_cut_short {
                return;
            }
            let slot = Gpa(table.saturating_add(index.saturating_mul(8)));
            let Ok(entry) = self.memory.atomic_u64(slot, WordOp::Load) else {
                return;
            };
            if entry & 1 == 0 {
                continue;
            }
            let linear = base | index.wrapping_shl(shift);
            let linear = match level == 4 && index >= 256 {
                true => linear | 0xFFFF_0000_0000_0000,
                false => linear,
            };
            let is_page = level == 1 || level < 4 && entry & 0x80 != 0;
            if !is_page {
                self.list(
                    map,
                    tables,
                    entry & ADDRESS,
                    level.saturating_sub(1),
                    linear,
                );
                continue;
            }
            let len_bytes = 1_u64.wrapping_shl(shift);
            let physical = entry & ADDRESS & !len_bytes.saturating_sub(1);
            self.add(
                map,
                Piece {
                    linear,
                    physical,
                    len_bytes,
                },
            );
        }
    }

    /// Adds a page, cut to RAM, to the piece before it if it continues that.
    fn add(&self, map: &mut LinearMap, page: Piece) {
        let Some(piece) = self.cut(page) else {
            return;
        };
        if let Some(last) = map.pieces.last_mut()
            && last.linear.wrapping_add(last.len_bytes) == piece.linear
            && last.physical.wrapping_add(last.len_bytes) == piece.physical
            && self.ends_in_one_range(last.physical, piece)
        {
            last.len_bytes = last.len_bytes.saturating_add(piece.len_bytes);
        } else if map.pieces.len() < PIECES_MAX {
            map.pieces.push(piece);
        } else {
            map.is_cut_short = true;
        }
    }

    /// Cuts a page to the range of RAM that its first byte is in.
    fn cut(&self, page: Piece) -> Option<Piece> {
        let left = self.ram.iter().find_map(|&(start, len_bytes)| {
            let offset = page.physical.checked_sub(start.0)?;
            len_bytes.checked_sub(offset).filter(|left| *left > 0)
        })?;
        Some(Piece {
            len_bytes: page.len_bytes.min(left),
            ..page
        })
    }

    fn ends_in_one_range(&self, first: u64, piece: Piece) -> bool {
        let of = |at: u64| {
            self.ram.iter().position(|&(start, len_bytes)| {
                at.checked_sub(start.0)
                    .is_some_and(|offset| offset < len_bytes)
            })
        };
        of(first) == of(piece.physical)
    }
}

const PAGE: u64 = 4096;
/// RAM is read and written in pieces of this size, and so are holes.
const CHUNK: usize = 64 << 10;
const VCPUS_MAX: usize = 255;
const SIGSEGV: u16 = 11;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
const TABLES_MAX: u32 = 1 << 16;
const PIECES_MAX: usize = 1 << 15;
/// Where the linear addresses of RAM begin that stand for its physical ones, beside those of the
/// guest's page tables: no canonical address.
const PHYSICAL_BASE: u64 = 0x8000_0000_0000_0000;
