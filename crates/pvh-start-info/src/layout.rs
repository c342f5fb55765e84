//! Where each part of the block is.

use pvh_abi::start_info::MemmapEntry;

use crate::{BuildError, Generation, MemmapRange, Module, Part};

/// Where each part of the block begins, in bytes from its start; `None` if the part is absent.
///
/// The order is that of Xen's libxenguest: structure, command line, module table, module command
/// lines, memory map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) cmdline: Option<u64>,
    pub(crate) modules: Option<u64>,
    /// The first command line of a module; the others follow, each at [`line_size_bytes`].
    pub(crate) module_cmdlines: u64,
    pub(crate) memmap: Option<u64>,
    pub(crate) size_bytes: u64,
}

impl Layout {
    /// Lays the parts out one after another.
    pub(crate) fn of(
        generation: Generation,
        cmdline: Option<&[u8]>,
        modules: &[Module<'_>],
        memmap: &[MemmapRange],
    ) -> Result<Self, BuildError> {
        let mut end = End(0);
        end.push(Part::Block, Some(generation.head_size_bytes()))?;
        let cmdline = match cmdline {
            Some(line) => Some(end.push(Part::CommandLine, line_size_bytes(line))?),
            None => None,
        };
        let entry_size_bytes = generation.module_entry_size_bytes();
        let modules_at = end.push_table(Part::ModuleTable, modules.len(), entry_size_bytes)?;
        let module_cmdlines = end.0;
        for (index, module) in modules.iter().enumerate() {
            if let Some(line) = module.cmdline {
                end.push(Part::ModuleCommandLine(index), line_size_bytes(line))?;
            }
        }
        let entry_size_bytes = size_of::<MemmapEntry>() as u64;
        let memmap = end.push_table(Part::Memmap, memmap.len(), entry_size_bytes)?;
        Ok(Self {
            cmdline,
            modules: modules_at,
            module_cmdlines,
            memmap,
            size_bytes: end.0,
        })
    }
}

/// Returns the size of a command line in the block: its bytes, its NUL, padding to [`ALIGN_BYTES`].
pub(crate) fn line_size_bytes(line: &[u8]) -> Option<u64> {
    let len_bytes = line.len() as u64;
    len_bytes
        .checked_add(1)?
        .checked_next_multiple_of(ALIGN_BYTES)
}

/// The alignment of the block and of every part of it.
pub(crate) const ALIGN_BYTES: u64 = 8;

/// The end of the block so far, a multiple of [`ALIGN_BYTES`].
struct End(u64);

impl End {
    /// Appends a part and returns its offset. A size of `None` means that it overflowed.
    fn push(&mut self, part: Part, size_bytes: Option<u64>) -> Result<u64, BuildError> {
        let start = self.0;
        self.0 = size_bytes
            .and_then(|size_bytes| start.checked_add(size_bytes))
            .and_then(|end| end.checked_next_multiple_of(ALIGN_BYTES))
            .ok_or(BuildError::TooLarge { part })?;
        Ok(start)
    }

    /// Appends a table; a table without entries is absent.
    fn push_table(
        &mut self,
        part: Part,
        entries: usize,
        entry_size_bytes: u64,
    ) -> Result<Option<u64>, BuildError> {
        if entries == 0 {
            return Ok(None);
        }
        if u32::try_from(entries).is_err() {
            return Err(BuildError::TooMany { part, entries });
        }
        let size_bytes = (entries as u64).checked_mul(entry_size_bytes);
        self.push(part, size_bytes).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::{End, line_size_bytes};
    use crate::{BuildError, Part};

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_table_whose_count_has_more_than_32_bits_is_refused() {
        let part = Part::Memmap;
        let entries = 0x1_0000_0000;
        let want = BuildError::TooMany { part, entries };
        assert_eq!(End(56).push_table(part, entries, 24), Err(want));
        assert_eq!(End(56).push_table(part, 0xffff_ffff, 24), Ok(Some(56)));
    }

    #[test]
    fn a_size_that_overflows_is_refused() {
        let part = Part::CommandLine;
        let want = BuildError::TooLarge { part };
        assert_eq!(End(8).push(part, None), Err(want));
        assert_eq!(End(8).push(part, Some(u64::MAX - 7)), Err(want));
        assert_eq!(
            End(8).push(part, Some(u64::MAX - 8)),
            Err(want),
            "by its padding"
        );
        assert_eq!(End(8).push(part, Some(u64::MAX - 15)), Ok(8));
    }

    #[test]
    fn a_table_without_entries_takes_no_room() {
        let mut end = End(56);
        assert_eq!(end.push_table(Part::ModuleTable, 0, 32), Ok(None));
        assert_eq!(end.0, 56);
    }

    #[test]
    fn a_line_takes_its_nul_and_is_rounded_to_eight() {
        assert_eq!(line_size_bytes(b""), Some(8));
        assert_eq!(line_size_bytes(b"1234567"), Some(8));
        assert_eq!(line_size_bytes(b"12345678"), Some(16));
    }
}
