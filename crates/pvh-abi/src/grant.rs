//! `grant_table_op`: sub-operations and structures (xen/include/public/grant_table.h).

use zerocopy::little_endian::{I16, U16, U32, U64};

use crate::{open_set::open_set, wire::wire};

open_set! {
    /// The sub-operation of `grant_table_op`.
    #[doc(alias = "GNTTABOP")]
    GrantOp: u32 {
        /// Maps granted pages.
        MAP_GRANT_REF = 0,
        /// Ends mappings.
        UNMAP_GRANT_REF = 1,
        /// Reads the table's frames.
        SETUP_TABLE = 2,
        /// Prints the table.
        DUMP_TABLE = 3,
        /// Transfers pages to another domain.
        TRANSFER = 4,
        /// Copies between pages.
        COPY = 5,
        /// Reads the size of the table.
        QUERY_SIZE = 6,
        /// Ends a mapping and replaces it with another.
        UNMAP_AND_REPLACE = 7,
        /// Chooses the entry format.
        SET_VERSION = 8,
        /// Asks for the status frames of format 2.
        GET_STATUS_FRAMES = 9,
        /// Reads the entry format.
        GET_VERSION = 10,
        /// Exchanges two entries.
        SWAP_GRANT_REF = 11,
        /// Flushes caches (Arm).
        CACHE_FLUSH = 12,
    }
}

open_set! {
    /// The result of one element.
    #[doc(alias = "GNTST")]
    GrantStatus: i16 {
        /// Done.
        OKAY = 0,
        /// Some error.
        GENERAL_ERROR = -1,
        /// No such domain.
        BAD_DOMAIN = -2,
        /// No such grant.
        BAD_GNTREF = -3,
        /// No such mapping.
        BAD_HANDLE = -4,
        /// A wrong virtual address.
        BAD_VIRT_ADDR = -5,
        /// A wrong device address.
        BAD_DEV_ADDR = -6,
        /// No room in the device's address space.
        NO_DEVICE_SPACE = -7,
        /// Not allowed.
        PERMISSION_DENIED = -8,
        /// A page that cannot be granted.
        BAD_PAGE = -9,
        /// A copy that leaves its page.
        BAD_COPY_ARG = -10,
        /// An address too large.
        ADDRESS_TOO_BIG = -11,
        /// Try again.
        EAGAIN = -12,
        /// No handle left.
        NO_SPACE = -13,
    }
}

wire! {
    /// An entry of a version 1 table.
    #[doc(alias = "grant_entry_v1")]
    GrantEntryV1: 8 {
        /// GTF_* bits.
        pub flags: U16 = 0,
        /// The domain that may use the grant.
        pub domid: U16 = 2,
        /// The frame granted.
        pub frame: U32 = 4,
    }
}

wire! {
    /// An element of `map_grant_ref`.
    #[doc(alias = "gnttab_map_grant_ref")]
    MapGrantRef: 32 {
        /// Guest-physical address to map at.
        pub host_addr: U64 = 0,
        /// GNTMAP_* bits.
        pub flags: U32 = 8,
        /// The grant reference.
        pub gref: U32 = 12,
        /// The domain that made the grant.
        pub dom: U16 = 16,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 18,
        /// Out: the handle of the mapping.
        pub handle: U32 = 20,
        /// Out: the device address.
        pub dev_bus_addr: U64 = 24,
    }
}

wire! {
    /// An element of `unmap_grant_ref`.
    #[doc(alias = "gnttab_unmap_grant_ref")]
    UnmapGrantRef: 24 {
        /// Where it was mapped.
        pub host_addr: U64 = 0,
        /// Its device address, or 0.
        pub dev_bus_addr: U64 = 8,
        /// The handle of the mapping.
        pub handle: U32 = 16,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 20,
        /// Padding.
        pub pad: U16 = 22,
    }
}

wire! {
    /// The argument of `setup_table`, 64-bit callers.
    #[doc(alias = "gnttab_setup_table")]
    SetupTable: 24 {
        /// The domain that owns the table.
        pub dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// The number of frames that the table must have.
        pub nr_frames: U32 = 4,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 8,
        /// Padding.
        pub pad2: [u8; 6] = 10,
        /// Linear address for the frame numbers, 8 bytes each.
        pub frame_list: U64 = 16,
    }
}

wire! {
    /// The argument of `setup_table`, 32-bit callers.
    #[doc(alias = "gnttab_setup_table")]
    SetupTableCompat: 16 {
        /// The domain that owns the table.
        pub dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// The number of frames that the table must have.
        pub nr_frames: U32 = 4,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 8,
        /// Padding.
        pub pad2: U16 = 10,
        /// Linear address for the frame numbers, 4 bytes each.
        pub frame_list: U32 = 12,
    }
}

wire! {
    /// The argument of `query_size`.
    #[doc(alias = "gnttab_query_size")]
    QuerySize: 16 {
        /// The domain that owns the table.
        pub dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// Out: the number of frames in the table.
        pub nr_frames: U32 = 4,
        /// Out: the most frames that the table may have.
        pub max_nr_frames: U32 = 8,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 12,
        /// Padding.
        pub pad2: U16 = 14,
    }
}

wire! {
    /// The argument of `set_version`.
    #[doc(alias = "gnttab_set_version")]
    SetVersion: 4 {
        /// In: 1 or 2. Out: the version in use.
        pub version: U32 = 0,
    }
}

wire! {
    /// The argument of `get_version`.
    #[doc(alias = "gnttab_get_version")]
    GetVersion: 8 {
        /// The domain that owns the table.
        pub dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// Out: the version in use.
        pub version: U32 = 4,
    }
}

wire! {
    /// One side of a copy, 64-bit callers.
    #[doc(alias = "gnttab_copy_ptr")]
    GrantCopySide: 16 {
        /// A grant reference, or a frame of the caller's, by the copy's flags.
        pub place: U64 = 0,
        /// The domain that owns the page.
        pub domid: U16 = 8,
        /// The offset in the page, in bytes.
        pub offset: U16 = 10,
        /// Padding.
        pub pad: U32 = 12,
    }
}

wire! {
    /// One side of a copy, 32-bit callers.
    #[doc(alias = "gnttab_copy_ptr")]
    GrantCopySideCompat: 8 {
        /// A grant reference, or a frame of the caller's, by the copy's flags.
        pub place: U32 = 0,
        /// The domain that owns the page.
        pub domid: U16 = 4,
        /// The offset in the page, in bytes.
        pub offset: U16 = 6,
    }
}

wire! {
    /// An element of `copy`, 64-bit callers.
    #[doc(alias = "gnttab_copy")]
    GrantCopy: 40 {
        /// The source.
        pub source: GrantCopySide = 0,
        /// The destination.
        pub dest: GrantCopySide = 16,
        /// The length in bytes.
        pub len: U16 = 32,
        /// Bit 0: the source is a grant; bit 1: the destination is one.
        pub flags: U16 = 34,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 36,
        /// Padding.
        pub pad: U16 = 38,
    }
}

wire! {
    /// An element of `copy`, 32-bit callers.
    #[doc(alias = "gnttab_copy")]
    GrantCopyCompat: 24 {
        /// The source.
        pub source: GrantCopySideCompat = 0,
        /// The destination.
        pub dest: GrantCopySideCompat = 8,
        /// The length in bytes.
        pub len: U16 = 16,
        /// Bit 0: the source is a grant; bit 1: the destination is one.
        pub flags: U16 = 18,
        /// Out: see [`GrantStatus`].
        pub status: I16 = 20,
        /// Padding.
        pub pad: U16 = 22,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_grant_table_h() {
        assert_eq!(GrantOp(6).name(), Some("QUERY_SIZE"));
        assert_eq!(GrantOp(11).name(), Some("SWAP_GRANT_REF"));
        assert_eq!(GrantStatus(-3).name(), Some("BAD_GNTREF"));
        assert_eq!(GrantStatus(-13).name(), Some("NO_SPACE"));
    }
}
