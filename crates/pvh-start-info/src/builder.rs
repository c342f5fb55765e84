//! Builds a start info structure with its tables.

use pvh_abi::{
    Gpa,
    start_info::{
        MemmapEntry, MemmapKind, ModuleEntry, ModuleEntryDraft, START_INFO_MAGIC, StartInfoDraft,
        StartInfoFlags, StartInfoV0, StartInfoV1,
    },
};
use zerocopy::little_endian::{U32, U64};

use crate::{
    BuildError, Generation, Part,
    block::Block,
    checks::{check_end, check_line, check_low, check_place, count, low},
    layout::{Layout, line_size_bytes},
};

/// A module that the structure lists; the caller places its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Module<'a> {
    /// Its address.
    pub paddr: Gpa,
    /// Its exact length in bytes.
    pub size_bytes: u64,
    /// Its command line without a NUL, if it has one. `Some(b"")` helps guests that do not check
    /// for an absent one (FreeBSD).
    pub cmdline: Option<&'a [u8]>,
}

/// A range of the memory map.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MemmapRange {
    /// Its start; 0 is a valid address here.
    pub start: Gpa,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Its kind.
    pub kind: MemmapKind,
}

/// Builds a start info structure and all that it points to, as one contiguous block.
///
/// The builder takes the counts from the tables and gives absent tables the address 0, so that
/// count and table cannot disagree.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder<'a> {
    generation: Generation,
    flags: StartInfoFlags,
    cmdline: Option<&'a [u8]>,
    modules: &'a [Module<'a>],
    memmap: &'a [MemmapRange],
    rsdp: Option<Gpa>,
}

impl<'a> Builder<'a> {
    /// Starts with an empty structure.
    pub const fn new(generation: Generation) -> Self {
        Self {
            generation,
            flags: StartInfoFlags::NONE,
            cmdline: None,
            modules: &[],
            memmap: &[],
            rsdp: None,
        }
    }

    /// Sets the flags.
    pub const fn flags(mut self, flags: StartInfoFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the command line, without a NUL. An empty command line is present and empty.
    pub const fn cmdline(mut self, line: &'a [u8]) -> Self {
        self.cmdline = Some(line);
        self
    }

    /// Sets the modules; the draft has no field for their command lines.
    pub const fn modules(mut self, modules: &'a [Module<'a>]) -> Self {
        self.modules = modules;
        self
    }

    /// Sets the memory map, which only version 1 has.
    ///
    /// Any number of ranges in any order is accepted; see
    /// [`LINUX_MEMMAP_LIMIT`](crate::LINUX_MEMMAP_LIMIT).
    pub const fn memmap(mut self, ranges: &'a [MemmapRange]) -> Self {
        self.memmap = ranges;
        self
    }

    /// Sets the address of the RSDP, which the draft does not have.
    pub const fn rsdp(mut self, paddr: Gpa) -> Self {
        self.rsdp = Some(paddr);
        self
    }

    /// Returns the size of the block in bytes, a multiple of 8. It does not depend on the address.
    ///
    /// # Errors
    ///
    /// Any [`BuildError`] except those about the address and the buffer: values contradict each
    /// other or the generation.
    pub fn size_bytes(&self) -> Result<u64, BuildError> {
        self.layout().map(|layout| layout.size_bytes)
    }

    /// Writes the block to the start of `out`, for a guest that will find it at `at`, and returns
    /// its size in bytes.
    ///
    /// Every byte of `out[..size]` is defined, padding included. The bytes after it are unchanged.
    ///
    /// # Errors
    ///
    /// As [`size_bytes`](Self::size_bytes), and [`BuildError::AtZero`], [`BuildError::Misaligned`],
    /// [`BuildError::AboveFourGib`] for an address where the block cannot be,
    /// [`BuildError::BufferTooSmall`]. Nothing is written in these cases.
    pub fn write(&self, at: Gpa, out: &mut [u8]) -> Result<usize, BuildError> {
        let layout = self.layout()?;
        check_place(at, layout.size_bytes)?;
        let too_small = BuildError::BufferTooSmall {
            need_bytes: layout.size_bytes,
            len_bytes: out.len(),
        };
        let size = usize::try_from(layout.size_bytes).map_err(|_| too_small)?;
        let bytes = out.get_mut(..size).ok_or(too_small)?;
        bytes.fill(0);
        let mut block = Block { at, bytes };
        self.write_head(&layout, &mut block)?;
        if let (Some(offset), Some(line)) = (layout.cmdline, self.cmdline) {
            block.put(offset, line)?;
        }
        self.write_modules(&layout, &mut block)?;
        self.write_memmap(&layout, &mut block)?;
        Ok(size)
    }

    fn layout(&self) -> Result<Layout, BuildError> {
        self.check_generation()?;
        self.check_lines()?;
        self.check_addresses()?;
        Layout::of(self.generation, self.cmdline, self.modules, self.memmap)
    }

    /// Refuses a value for which the generation has no field.
    fn check_generation(&self) -> Result<(), BuildError> {
        let generation = self.generation;
        let refuse = |part| Err(BuildError::Unsayable { part, generation });
        if generation != Generation::V1 && !self.memmap.is_empty() {
            return refuse(Part::Memmap);
        }
        if generation != Generation::Draft {
            return Ok(());
        }
        if self.rsdp.is_some() {
            return refuse(Part::Rsdp);
        }
        match self.modules.iter().position(|m| m.cmdline.is_some()) {
            Some(index) => refuse(Part::ModuleCommandLine(index)),
            None => Ok(()),
        }
    }

    /// Refuses a NUL inside a command line.
    fn check_lines(&self) -> Result<(), BuildError> {
        if let Some(line) = self.cmdline {
            check_line(Part::CommandLine, line)?;
        }
        for (index, module) in self.modules.iter().enumerate() {
            if let Some(line) = module.cmdline {
                check_line(Part::ModuleCommandLine(index), line)?;
            }
        }
        Ok(())
    }

    /// Refuses addresses that mean "absent", overflow, or do not fit their field.
    fn check_addresses(&self) -> Result<(), BuildError> {
        if self.rsdp == Some(Gpa(0)) {
            return Err(BuildError::AtZero { part: Part::Rsdp });
        }
        for (index, module) in self.modules.iter().enumerate() {
            let part = Part::Module(index);
            if module.paddr == Gpa(0) {
                return Err(BuildError::AtZero { part });
            }
            if self.generation == Generation::Draft {
                check_low(part, module.paddr, module.size_bytes)?;
            }
            check_end(part, module.paddr, module.size_bytes)?;
        }
        for (index, range) in self.memmap.iter().enumerate() {
            check_end(Part::MemmapRange(index), range.start, range.len_bytes)?;
        }
        Ok(())
    }

    fn write_head(&self, layout: &Layout, block: &mut Block<'_>) -> Result<(), BuildError> {
        if self.generation == Generation::Draft {
            let head = StartInfoDraft {
                magic: U32::new(START_INFO_MAGIC),
                flags: U32::new(self.flags.0),
                cmdline_paddr: block.low_address(Part::CommandLine, layout.cmdline)?,
                nr_modules: count(Part::ModuleTable, self.modules.len())?,
                modlist_paddr: block.low_address(Part::ModuleTable, layout.modules)?,
            };
            return block.put_wire(0, &head);
        }
        let version = u32::from(self.generation == Generation::V1);
        let v0 = StartInfoV0 {
            magic: U32::new(START_INFO_MAGIC),
            version: U32::new(version),
            flags: U32::new(self.flags.0),
            nr_modules: count(Part::ModuleTable, self.modules.len())?,
            modlist_paddr: block.address(Part::ModuleTable, layout.modules)?,
            cmdline_paddr: block.address(Part::CommandLine, layout.cmdline)?,
            rsdp_paddr: U64::new(self.rsdp.unwrap_or_default().0),
        };
        if version == 0 {
            return block.put_wire(0, &v0);
        }
        let head = StartInfoV1 {
            v0,
            memmap_paddr: block.address(Part::Memmap, layout.memmap)?,
            memmap_entries: count(Part::Memmap, self.memmap.len())?,
            reserved: U32::ZERO,
        };
        block.put_wire(0, &head)
    }

    /// Writes the module table and the command lines of the modules.
    fn write_modules(&self, layout: &Layout, block: &mut Block<'_>) -> Result<(), BuildError> {
        let Some(mut entry_at) = layout.modules else {
            return Ok(());
        };
        let mut line_at = layout.module_cmdlines;
        for (index, module) in self.modules.iter().enumerate() {
            let part = Part::ModuleCommandLine(index);
            let cmdline_at = module.cmdline.map(|_| line_at);
            if let Some(line) = module.cmdline {
                block.put(line_at, line)?;
                line_at = line_size_bytes(line)
                    .and_then(|size_bytes| line_at.checked_add(size_bytes))
                    .ok_or(BuildError::TooLarge { part })?;
            }
            if self.generation == Generation::Draft {
                let entry = ModuleEntryDraft {
                    paddr: low(Part::Module(index), module.paddr, module.paddr.0)?,
                    size: low(Part::Module(index), module.paddr, module.size_bytes)?,
                };
                block.put_wire(entry_at, &entry)?;
            } else {
                let entry = ModuleEntry {
                    paddr: U64::new(module.paddr.0),
                    size: U64::new(module.size_bytes),
                    cmdline_paddr: block.address(part, cmdline_at)?,
                    reserved: U64::ZERO,
                };
                block.put_wire(entry_at, &entry)?;
            }
            entry_at = entry_at.saturating_add(self.generation.module_entry_size_bytes());
        }
        Ok(())
    }

    fn write_memmap(&self, layout: &Layout, block: &mut Block<'_>) -> Result<(), BuildError> {
        let Some(mut entry_at) = layout.memmap else {
            return Ok(());
        };
        for range in self.memmap {
            let entry = MemmapEntry {
                addr: U64::new(range.start.0),
                size: U64::new(range.len_bytes),
                kind: U32::new(range.kind.0),
                reserved: U32::ZERO,
            };
            block.put_wire(entry_at, &entry)?;
            entry_at = entry_at.saturating_add(size_of::<MemmapEntry>() as u64);
        }
        Ok(())
    }
}
