//! Carries a plan out: writes the kernel, the modules and the start info into guest memory.

use std::os::fd::AsFd;

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_entry::EntryState;
use pvh_memory::GuestMemory;

use self::writer::{Origin, Writer};
pub use self::{error::CommitError, method::Method};
use crate::{
    layout::pages,
    module::{ModuleData, ModuleSource},
    plan::{Plan, Write, WriteKind},
};

mod error;
mod method;
mod writer;

/// A loaded guest, ready to start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The registers the boot vCPU starts with.
    pub entry: EntryState,
    /// How many bytes of guest memory were written, zeros included.
    pub written_bytes: u64,
    /// How many bytes were mapped from files instead.
    pub mapped_bytes: u64,
}

impl Plan<'_> {
    /// Writes or maps everything that is planned into `memory`.
    ///
    /// Before the first write, this checks that `memory` has RAM for each write, that no file has
    /// changed its length, and that the instructions to be patched are still there. Files are read
    /// straight into `memory` where it can ([`GuestMemory::fill`]), else through a buffer of
    /// 256 KiB. No byte outside the plan's writes changes.
    ///
    /// # Errors
    ///
    /// [`CommitError`]. After the first write, only these can fail: reading a file, and a guest
    /// memory that said it had RAM there. [`CommitError::memory_untouched`] tells.
    pub fn commit<M: GuestMemory + ?Sized>(
        &self,
        method: Method,
        memory: &M,
    ) -> Result<Loaded, CommitError> {
        let placement = self.placement();
        self.check_ram(memory)?;
        let start_info = self.start_info_bytes()?;
        let entry = EntryState::pvh(placement.entry, placement.start_info);
        let mut entry = entry.map_err(CommitError::Entry)?;
        entry.rsp = self.stack_top(memory).map_or(0, |top| top.0);
        self.check_lengths()?;
        self.check_patches()?;
        let mut writer = Writer::new(memory, method);
        for write in &placement.writes {
            match write.kind {
                WriteKind::Segment { index, file_offset } => {
                    writer.segment(write, self.image(), index, file_offset)?;
                }
                WriteKind::Bss { .. } | WriteKind::ModuleTail { .. } => writer.zero(write)?,
                WriteKind::Module { index } => self.write_module(&mut writer, write, index)?,
                WriteKind::StartInfo => writer.put(write, 0, &start_info)?,
            }
        }
        for patch in &placement.patches {
            writer.patch(patch)?;
        }
        Ok(Loaded {
            entry,
            written_bytes: writer.written_bytes,
            mapped_bytes: writer.mapped_bytes,
        })
    }

    /// Returns the top of the guest's first stack, if the page below it is memory, is not the
    /// kernel's and can be named by ESP.
    fn stack_top<M: GuestMemory + ?Sized>(&self, memory: &M) -> Option<Gpa> {
        let top = self.boot().stack_top?;
        let page = GuestRange::new(Gpa(top.0.checked_sub(PAGE_SIZE)?), PAGE_SIZE);
        let placement = self.placement();
        let mut written = placement.writes.iter().map(|write| write.range);
        let is_free =
            !placement.kernel.overlaps(page) && !written.any(|range| range.overlaps(page));
        let is_memory = memory.is_ram(page.start, page.len_bytes);
        (is_free && is_memory && top.0 <= u64::from(u32::MAX)).then_some(top)
    }

    fn write_module<M: GuestMemory + ?Sized>(
        &self,
        writer: &mut Writer<'_, M>,
        write: &Write,
        index: usize,
    ) -> Result<(), CommitError> {
        match self.boot().modules.get(index).map(ModuleSource::data) {
            Some(ModuleData::Bytes(bytes)) => writer.put(write, 0, bytes),
            Some(ModuleData::File { file, .. }) => {
                let origin = Origin {
                    file: file.as_fd(),
                    offset: 0,
                };
                writer.file(write, origin, |offset, _, source| CommitError::ReadModule {
                    index,
                    offset,
                    source,
                })
            }
            None => Ok(()), // cannot happen: each placed module is one of the boot's
        }
    }

    /// Checks that there is RAM for each write, the lowest first.
    fn check_ram<M: GuestMemory + ?Sized>(&self, memory: &M) -> Result<(), CommitError> {
        let writes = self.placement().writes.iter();
        let refused = writes.filter(|write| {
            let range = write.range;
            !memory.is_ram(range.start, range.len_bytes)
        });
        match refused.min_by_key(|write| write.range) {
            Some(&Write { kind: what, range }) => Err(CommitError::NotRam { what, range }),
            None => Ok(()),
        }
    }

    /// Checks that no file has changed its length since it was opened.
    fn check_lengths(&self) -> Result<(), CommitError> {
        let writes = self.placement().writes.iter();
        let ends = writes.filter_map(|write| match write.kind {
            WriteKind::Segment { file_offset, .. } => {
                file_offset.checked_add(write.range.len_bytes)
            }
            _ => None,
        });
        if let Some(last) = ends.max().and_then(|end| end.checked_sub(1)) {
            let probe = self.image().read_at(last, &mut [0]);
            probe.map_err(CommitError::ImageChanged)?;
        }
        for (index, module) in self.boot().modules.iter().enumerate() {
            let ModuleData::File { file, len_bytes } = module.data() else {
                continue;
            };
            let metadata = file.metadata();
            let metadata = metadata.map_err(|source| CommitError::Module { index, source })?;
            if metadata.len() != *len_bytes {
                return Err(CommitError::ModuleChanged {
                    index,
                    expected_bytes: *len_bytes,
                    found_bytes: metadata.len(),
                });
            }
        }
        Ok(())
    }

    /// Checks that the instructions to be patched are still what was found.
    fn check_patches(&self) -> Result<(), CommitError> {
        for &patch in &self.placement().patches {
            let mut found = [0; 3];
            let read = self.image().read_at(patch.file_offset, &mut found);
            read.map_err(CommitError::ImageChanged)?;
            if found != patch.call.bytes() {
                return Err(CommitError::StubChanged { patch, found });
            }
        }
        Ok(())
    }

    /// Builds the start info, with zeros to the end of its last page.
    fn start_info_bytes(&self) -> Result<Vec<u8>, CommitError> {
        let (boot, placement) = (self.boot(), self.placement());
        let table = boot.module_table(placement.modules.iter().copied());
        let builder = boot.builder(&table);
        let size_bytes = builder.size_bytes().map_err(CommitError::StartInfo)?;
        // The plan placed it below 1 GiB, so its length fits.
        let len = pages(size_bytes).and_then(|len| usize::try_from(len).ok());
        let mut bytes = vec![0; len.unwrap_or_default()];
        let written = builder.write(placement.start_info, &mut bytes);
        written.map_err(CommitError::StartInfo)?;
        Ok(bytes)
    }
}
