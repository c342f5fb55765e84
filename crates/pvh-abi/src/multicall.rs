//! `multicall` (xen/include/public/xen.h).

use zerocopy::little_endian::{U32, U64};

use crate::wire::wire;

wire! {
    /// One call of a list, 64-bit callers.
    #[doc(alias = "multicall_entry")]
    MulticallEntry: 64 {
        /// The hypercall's number.
        pub op: U64 = 0,
        /// Out: its result.
        pub result: U64 = 8,
        /// Its arguments; the sixth is not used.
        pub args: [U64; 6] = 16,
    }
}

wire! {
    /// One call of a list, 32-bit callers.
    #[doc(alias = "multicall_entry")]
    MulticallEntryCompat: 32 {
        /// The hypercall's number.
        pub op: U32 = 0,
        /// Out: its result.
        pub result: U32 = 4,
        /// Its arguments; the sixth is not used.
        pub args: [U32; 6] = 8,
    }
}
