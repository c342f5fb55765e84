//! `memory_op`: sub-operations and structures (xen/include/public/memory.h).

use zerocopy::little_endian::{U16, U32, U64};

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `memory_op`: the low 6 bits of its command.
    #[doc(alias = "XENMEM")]
    MemoryOp: u32 {
        /// Adds pages (PV).
        INCREASE_RESERVATION = 0,
        /// Returns pages to the hypervisor.
        DECREASE_RESERVATION = 1,
        /// Reads the host's highest page.
        MAXIMUM_RAM_PAGE = 2,
        /// Reads the number of pages that the domain has.
        CURRENT_RESERVATION = 3,
        /// Reads the number of pages that the domain may have.
        MAXIMUM_RESERVATION = 4,
        /// Lists machine-to-physical frames (PV).
        MACHPHYS_MFN_LIST = 5,
        /// Adds pages at chosen frames.
        POPULATE_PHYSMAP = 6,
        /// Maps a shared page at a frame, or moves a page.
        ADD_TO_PHYSMAP = 7,
        /// Reads the memory map.
        MEMORY_MAP = 9,
        /// Reads the host's memory map.
        MACHINE_MEMORY_MAP = 10,
        /// Exchanges pages (PV).
        EXCHANGE = 11,
        /// Asks where the machine-to-physical table is (PV).
        MACHPHYS_MAPPING = 12,
        /// Replaces the memory map.
        SET_MEMORY_MAP = 13,
        /// Reads the domain's highest frame.
        MAXIMUM_GPFN = 14,
        /// Removes the page at a frame.
        REMOVE_FROM_PHYSMAP = 15,
        /// `ADD_TO_PHYSMAP` for a list.
        ADD_TO_PHYSMAP_BATCH = 23,
        /// Reserves host memory.
        CLAIM_PAGES = 24,
        /// Lists machine-to-physical frames of 32-bit guests (PV).
        MACHPHYS_COMPAT_MFN_LIST = 25,
        /// Reads the virtual NUMA topology.
        GET_VNUMAINFO = 26,
        /// Reads the ranges that devices need identity mapped.
        RESERVED_DEVICE_MEMORY_MAP = 27,
        /// Maps a resource of another domain.
        ACQUIRE_RESOURCE = 28,
    }
}

/// The number of low bits of `memory_op`'s command that are the sub-operation; the higher bits
/// count the extents that are done.
#[doc(alias = "MEMOP_EXTENT_SHIFT")]
pub const MEMORY_OP_BITS: u32 = 6;

open_set! {
    /// The kind of page that `add_to_physmap` maps.
    #[doc(alias = "XENMAPSPACE")]
    MapSpace: u32 {
        /// The shared info page.
        SHARED_INFO = 0,
        /// A frame of the grant table.
        GRANT_TABLE = 1,
        /// A page of the domain, which moves.
        GMFN = 2,
        /// A run of such pages.
        GMFN_RANGE = 3,
        /// A page of another domain.
        GMFN_FOREIGN = 4,
        /// Device memory.
        DEV_MMIO = 5,
    }
}

wire! {
    /// The argument of the three reservation calls, 64-bit callers.
    #[doc(alias = "xen_memory_reservation")]
    MemoryReservation: 32 {
        /// Linear address of the frame numbers, 8 bytes each.
        pub extent_start: U64 = 0,
        /// The number of extents.
        pub nr_extents: U64 = 8,
        /// Each is 2^order pages.
        pub extent_order: U32 = 16,
        /// XENMEMF_* bits.
        pub mem_flags: U32 = 20,
        /// The domain that owns the memory.
        pub domid: U16 = 24,
        /// Padding.
        pub pad: [u8; 6] = 26,
    }
}

wire! {
    /// The argument of the three reservation calls, 32-bit callers.
    #[doc(alias = "xen_memory_reservation")]
    MemoryReservationCompat: 20 {
        /// Linear address of the frame numbers, 4 bytes each.
        pub extent_start: U32 = 0,
        /// The number of extents.
        pub nr_extents: U32 = 4,
        /// Each is 2^order pages.
        pub extent_order: U32 = 8,
        /// XENMEMF_* bits.
        pub mem_flags: U32 = 12,
        /// The domain that owns the memory.
        pub domid: U16 = 16,
        /// Padding.
        pub pad: U16 = 18,
    }
}

wire! {
    /// The argument of `add_to_physmap`, 64-bit callers.
    #[doc(alias = "xen_add_to_physmap")]
    AddToPhysmap: 24 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// The number of pages, for [`MapSpace::GMFN_RANGE`] only.
        pub size: U16 = 2,
        /// See [`MapSpace`].
        pub space: U32 = 4,
        /// The index of the page in that space.
        pub idx: U64 = 8,
        /// The frame at which it is mapped.
        pub gpfn: U64 = 16,
    }
}

wire! {
    /// The argument of `add_to_physmap`, 32-bit callers.
    #[doc(alias = "xen_add_to_physmap")]
    AddToPhysmapCompat: 16 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// The number of pages, for [`MapSpace::GMFN_RANGE`] only.
        pub size: U16 = 2,
        /// See [`MapSpace`].
        pub space: U32 = 4,
        /// The index of the page in that space.
        pub idx: U32 = 8,
        /// The frame at which it is mapped.
        pub gpfn: U32 = 12,
    }
}

wire! {
    /// The argument of `add_to_physmap_batch`, 64-bit callers.
    #[doc(alias = "xen_add_to_physmap_batch")]
    AddToPhysmapBatch: 32 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// See [`MapSpace`].
        pub space: U16 = 2,
        /// The number of entries.
        pub size: U16 = 4,
        /// The foreign domain's id, or flags.
        pub extra: U16 = 6,
        /// Linear address of the indices, 8 bytes each.
        pub idxs: U64 = 8,
        /// Linear address of the frames, 8 bytes each.
        pub gpfns: U64 = 16,
        /// Linear address of the results, 4 bytes each.
        pub errs: U64 = 24,
    }
}

wire! {
    /// The argument of `add_to_physmap_batch`, 32-bit callers.
    #[doc(alias = "xen_add_to_physmap_batch")]
    AddToPhysmapBatchCompat: 20 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// See [`MapSpace`].
        pub space: U16 = 2,
        /// The number of entries.
        pub size: U16 = 4,
        /// The foreign domain's id, or flags.
        pub extra: U16 = 6,
        /// Linear address of the indices, 4 bytes each.
        pub idxs: U32 = 8,
        /// Linear address of the frames, 4 bytes each.
        pub gpfns: U32 = 12,
        /// Linear address of the results, 4 bytes each.
        pub errs: U32 = 16,
    }
}

wire! {
    /// The argument of `remove_from_physmap`, 64-bit callers.
    #[doc(alias = "xen_remove_from_physmap")]
    RemoveFromPhysmap: 16 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: [u8; 6] = 2,
        /// The frame.
        pub gpfn: U64 = 8,
    }
}

wire! {
    /// The argument of `remove_from_physmap`, 32-bit callers.
    #[doc(alias = "xen_remove_from_physmap")]
    RemoveFromPhysmapCompat: 8 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// The frame.
        pub gpfn: U32 = 4,
    }
}

wire! {
    /// The argument of `memory_map`, 64-bit callers.
    #[doc(alias = "xen_memory_map")]
    MemoryMap: 16 {
        /// In: how many entries fit. Out: how many were written.
        pub nr_entries: U32 = 0,
        /// Padding.
        pub pad: U32 = 4,
        /// Linear address of the entries, see [`E820Entry`].
        pub buffer: U64 = 8,
    }
}

wire! {
    /// The argument of `memory_map`, 32-bit callers.
    #[doc(alias = "xen_memory_map")]
    MemoryMapCompat: 8 {
        /// In: how many entries fit. Out: how many were written.
        pub nr_entries: U32 = 0,
        /// Linear address of the entries, see [`E820Entry`].
        pub buffer: U32 = 4,
    }
}

wire! {
    /// The argument of `set_memory_map`, 64-bit callers.
    #[doc(alias = "xen_foreign_memory_map")]
    ForeignMemoryMap: 24 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: [u8; 6] = 2,
        /// The new map.
        pub map: MemoryMap = 8,
    }
}

wire! {
    /// The argument of `set_memory_map`, 32-bit callers.
    #[doc(alias = "xen_foreign_memory_map")]
    ForeignMemoryMapCompat: 12 {
        /// The domain that owns the map.
        pub domid: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// The new map.
        pub map: MemoryMapCompat = 4,
    }
}

wire! {
    /// An entry of `memory_map`: 20 bytes, for every caller.
    E820Entry: 20 {
        /// Guest-physical address of the range.
        pub addr: U64 = 0,
        /// Its length in bytes.
        pub size: U64 = 8,
        /// See [`MemmapKind`](crate::start_info::MemmapKind).
        pub kind: U32 = 16,
    }
}

wire! {
    /// The argument of `current_reservation`, `maximum_reservation` and `maximum_gpfn`.
    #[doc(alias = "xen_memory_domain")]
    MemoryDomain: 2 {
        /// The domain that owns the memory.
        pub domid: U16 = 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_memory_h() {
        assert_eq!(MemoryOp(7).name(), Some("ADD_TO_PHYSMAP"));
        assert_eq!(MemoryOp(9).name(), Some("MEMORY_MAP"));
        assert_eq!(MemoryOp(23).name(), Some("ADD_TO_PHYSMAP_BATCH"));
        assert_eq!(MemoryOp(8).name(), None);
        assert_eq!(1 << MEMORY_OP_BITS, 64);
        assert_eq!(MapSpace::GMFN_FOREIGN.0, 4);
    }
}
