use pvh_abi::{
    DomId, Errno,
    memory::{E820Entry, MapSpace},
};
use pvh_hypercall::group::{Extents, MapRequest, Memory, MemoryMapEntries};
use pvh_memory::Frames;

use super::super::session::Session;
use crate::memory::MemoryCalls;

impl<M: Frames + ?Sized> Session<'_, M> {
    fn memory_calls(&mut self) -> MemoryCalls<'_, M> {
        let domain = &mut *self.domain;
        MemoryCalls::new(
            &mut domain.memory_ops,
            self.scene.memory,
            &mut domain.shared_info,
            &mut domain.grants,
        )
    }
}

impl<M: Frames + ?Sized> Memory for Session<'_, M> {
    fn increase_reservation(&mut self, extents: &Extents<'_>) -> u64 {
        self.memory_calls().increase_reservation(extents)
    }

    fn decrease_reservation(&mut self, extents: &Extents<'_>) -> u64 {
        self.memory_calls().decrease_reservation(extents)
    }

    fn populate_physmap(&mut self, extents: &Extents<'_>) -> u64 {
        self.memory_calls().populate_physmap(extents)
    }

    fn maximum_ram_page(&mut self) -> u64 {
        self.memory_calls().maximum_ram_page()
    }

    fn current_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.memory_calls().current_reservation(domain)
    }

    fn maximum_reservation(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.memory_calls().maximum_reservation(domain)
    }

    fn maximum_gpfn(&mut self, domain: DomId) -> Result<u64, Errno> {
        self.memory_calls().maximum_gpfn(domain)
    }

    fn may_add_to_physmap(&self, domain: DomId, space: MapSpace) -> Result<(), Errno> {
        self.domain.memory_ops.check_add(domain, space)
    }

    fn add_to_physmap(&mut self, domain: DomId, request: &MapRequest) -> Result<(), Errno> {
        self.memory_calls().add_to_physmap(domain, request)
    }

    fn remove_from_physmap(&mut self, domain: DomId, gpfn: u64) -> Result<(), Errno> {
        self.memory_calls().remove_from_physmap(domain, gpfn)
    }

    fn memory_map_len(&self) -> u32 {
        // At most 1024.
        u32::try_from(self.domain.memory_ops.memory_map().len()).unwrap_or(0)
    }

    fn memory_map_entry(&self, index: u32) -> E820Entry {
        let entry = self.domain.memory_ops.memory_map().get(index as usize);
        entry.copied().unwrap_or(NO_ENTRY)
    }

    fn set_memory_map(&mut self, domain: DomId, map: &MemoryMapEntries<'_>) -> Result<(), Errno> {
        self.memory_calls().set_memory_map(domain, map)
    }
}

/// For an index past the end, which nobody asks for.
const NO_ENTRY: E820Entry = zerocopy::transmute!([0_u8; size_of::<E820Entry>()]);
