//! What a guest gets besides its kernel.

use pvh_abi::{
    Gpa, GuestRange,
    start_info::{MemmapKind, StartInfoFlags},
};
use pvh_start_info::{Builder, Generation, LINUX_MEMMAP_LIMIT, MemmapRange, Module};

use super::error::PlanError;
use crate::{layout::ISA_END, module::ModuleSource, stubs::HypercallPatch};

/// What a guest gets besides its kernel.
///
/// Only `memmap` must be given, because everything is placed in its RAM. [`Boot::default`] has the
/// rest.
#[derive(Debug)]
pub struct Boot {
    /// The version of the start info. Default: version 1.
    pub generation: Generation,
    /// The kernel's command line, without a NUL.
    pub cmdline: Vec<u8>,
    /// The modules, in order; Linux takes the first as its initrd.
    pub modules: Vec<ModuleSource>,
    /// The memory of the guest. Everything is placed in its RAM, except where another entry
    /// overlaps it. Only a version 1 start info has a memory map.
    pub memmap: Vec<MemmapRange>,
    /// The rule for the memory map of the start info.
    pub memmap_rule: MemmapRule,
    /// Address of the ACPI RSDP. Nothing is placed on its bytes. The draft has no field for it.
    pub rsdp: Option<Gpa>,
    /// The top of the guest's first stack, for ESP. ESP is 0 if the page below it is no memory or
    /// the kernel lies there.
    pub stack_top: Option<Gpa>,
    /// SIF_* bits.
    pub flags: StartInfoFlags,
    /// Ranges that nothing is placed in, besides those of `memmap`: ACPI tables in RAM, for
    /// example.
    pub reserved: Vec<GuestRange>,
    /// How the image's hypercall stubs are patched; `None` leaves them unchanged.
    pub patch: Option<HypercallPatch>,
}

/// Which memory map a version 1 start info has; the other versions have none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum MemmapRule {
    /// At most [`MemmapRule::LINUX_LIMIT`] entries; a longer map is refused.
    #[default]
    Linux,
    /// Any number of entries, for guests that are known to accept them.
    AnyLength,
    /// No entry: the guest gets its memory map from a hypercall.
    Omit,
}

impl MemmapRule {
    /// The most entries that Linux accepts.
    pub const LINUX_LIMIT: usize = LINUX_MEMMAP_LIMIT;
}

impl Default for Boot {
    /// A version 1 boot without memory, command line and modules.
    fn default() -> Self {
        Self {
            generation: Generation::V1,
            cmdline: Vec::new(),
            modules: Vec::new(),
            memmap: Vec::new(),
            memmap_rule: MemmapRule::default(),
            rsdp: None,
            stack_top: None,
            flags: StartInfoFlags::NONE,
            reserved: Vec::new(),
            patch: None,
        }
    }
}

impl Boot {
    /// Checks the parts that do not depend on an image.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let memmap = self
            .memmap
            .iter()
            .map(|entry| ("memory map", range_of(entry)));
        let reserved = self
            .reserved
            .iter()
            .map(|&range| ("reserved ranges", range));
        for (list, GuestRange { start, len_bytes }) in memmap.chain(reserved) {
            if start.checked_add(len_bytes).is_none() {
                return Err(PlanError::RangeWraps {
                    list,
                    start,
                    len_bytes,
                });
            }
        }
        let (count, limit) = (self.guest_memmap().len(), MemmapRule::LINUX_LIMIT);
        if self.memmap_rule == MemmapRule::Linux && count > limit {
            return Err(PlanError::MemmapTooLong { count, limit });
        }
        Ok(())
    }

    /// Returns the RAM, and the ranges that are taken from the start.
    pub(super) fn memory(&self) -> (Vec<GuestRange>, Vec<GuestRange>) {
        let (ram, other): (Vec<_>, Vec<_>) = self
            .memmap
            .iter()
            .partition(|entry| entry.kind == MemmapKind::RAM);
        let rsdp = self.rsdp.map(|at| GuestRange::new(at, RSDP_BYTES));
        let other = other.into_iter().map(range_of);
        let taken = other.chain(self.reserved.iter().copied()).chain(rsdp);
        (ram.into_iter().map(range_of).collect(), taken.collect())
    }

    /// Returns the length of the start info with all it points to.
    pub(super) fn start_info_bytes(&self) -> Result<u64, PlanError> {
        // The length depends neither on the places of the modules nor on their lengths.
        let anywhere = self
            .modules
            .iter()
            .map(|_| GuestRange::new(Gpa(ISA_END), 0));
        let table = self.module_table(anywhere);
        self.builder(&table)
            .size_bytes()
            .map_err(PlanError::StartInfo)
    }

    /// Returns the module table for modules at these places.
    ///
    /// Each module has a command line, an empty one if none is given: FreeBSD reads it without a
    /// check of the pointer. The draft's entries have no such field.
    pub(crate) fn module_table(
        &self,
        places: impl IntoIterator<Item = GuestRange>,
    ) -> Vec<Module<'_>> {
        let none = (self.generation != Generation::Draft).then_some(&[][..]);
        let modules = self
            .modules
            .iter()
            .zip(places)
            .map(|(module, place)| Module {
                paddr: place.start,
                size_bytes: place.len_bytes,
                cmdline: module.cmdline.as_deref().or(none),
            });
        modules.collect()
    }

    /// Returns the builder of the start info.
    ///
    /// There always is a command line: NetBSD reads it without a check of the pointer.
    pub(crate) fn builder<'a>(&'a self, modules: &'a [Module<'a>]) -> Builder<'a> {
        let builder = Builder::new(self.generation)
            .cmdline(&self.cmdline)
            .modules(modules)
            .memmap(self.guest_memmap())
            .flags(self.flags);
        match self.rsdp {
            Some(rsdp) if self.generation != Generation::Draft => builder.rsdp(rsdp),
            _ => builder,
        }
    }

    /// Returns the memory map that the start info has.
    fn guest_memmap(&self) -> &[MemmapRange] {
        match (self.generation, self.memmap_rule) {
            (_, MemmapRule::Omit) | (Generation::Draft | Generation::V0, _) => &[],
            _ => &self.memmap,
        }
    }
}

const fn range_of(entry: &MemmapRange) -> GuestRange {
    GuestRange::new(entry.start, entry.len_bytes)
}

/// Length of an RSDP of revision 2.
const RSDP_BYTES: u64 = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_command_line_has_an_empty_one_but_in_the_draft() {
        let modules = || vec![ModuleSource::from_bytes(vec![1])];
        let boot = Boot {
            modules: modules(),
            ..Boot::default()
        };
        let [module] = &boot.module_table([GuestRange::new(Gpa(0x1000), 1)])[..] else {
            panic!()
        };
        assert_eq!(module.cmdline, Some(&b""[..]));
        let draft = Boot {
            generation: Generation::Draft,
            modules: modules(),
            ..Boot::default()
        };
        let [module] = &draft.module_table([GuestRange::new(Gpa(0x1000), 1)])[..] else {
            panic!()
        };
        assert_eq!(module.cmdline, None);
    }
}
