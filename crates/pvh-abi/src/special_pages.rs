//! The special pages that Xen's toolstack gives an HVM or PVH domain beside its RAM (libxenguest,
//! xg_dom_x86.c).
//!
//! They are zero when the guest starts, the memory map calls them reserved, and HVM parameters name
//! the guest frame numbers.

use core::ops::Range;

use crate::{Gpa, GuestRange};

/// All special pages, as addresses: 8 pages.
pub const SPECIAL_PAGES: GuestRange = GuestRange::new(Gpa(0xFEFF_8000), 0x8000);

/// All special pages, as guest frame numbers.
pub const SPECIAL_GFNS: Range<u64> = 0xf_eff8..0xf_f000;

/// Frame of the ring for paging requests (`HVM_PARAM_PAGING_RING_PFN`).
pub const PAGING_RING_GFN: u64 = 0xf_eff8;

/// Frame of the ring for monitor requests (`HVM_PARAM_MONITOR_RING_PFN`).
pub const MONITOR_RING_GFN: u64 = 0xf_eff9;

/// Frame of the ring for memory sharing requests (`HVM_PARAM_SHARING_RING_PFN`).
pub const SHARING_RING_GFN: u64 = 0xf_effa;

/// Frame of the buffered I/O requests (`HVM_PARAM_BUFIOREQ_PFN`).
pub const BUFIOREQ_GFN: u64 = 0xf_effb;

/// Frame of the xenstore ring (`HVM_PARAM_STORE_PFN`).
pub const STORE_GFN: u64 = 0xf_effc;

/// Frame of the I/O requests (`HVM_PARAM_IOREQ_PFN`).
pub const IOREQ_GFN: u64 = 0xf_effd;

/// Frame of the identity page table (`HVM_PARAM_IDENT_PT`).
pub const IDENTITY_PAGE_TABLE_GFN: u64 = 0xf_effe;

/// Frame of the console ring (`HVM_PARAM_CONSOLE_PFN`).
pub const CONSOLE_GFN: u64 = 0xf_efff;

#[cfg(test)]
mod tests {
    use super::*;

    /// xg_dom_x86.c: page i of 8, counted down from gfn 0xff000, is at 0xff000 - 8 + i.
    #[test]
    fn the_pages_are_in_the_order_of_the_toolstack_below_gfn_ff000() {
        let pages = [
            PAGING_RING_GFN,
            MONITOR_RING_GFN,
            SHARING_RING_GFN,
            BUFIOREQ_GFN,
            STORE_GFN,
            IOREQ_GFN,
            IDENTITY_PAGE_TABLE_GFN,
            CONSOLE_GFN,
        ];
        assert!(pages.into_iter().eq(0xf_f000 - 8..0xf_f000));
        assert!(pages.into_iter().eq(SPECIAL_GFNS));
    }

    #[test]
    fn addresses_and_frame_numbers_name_the_same_pages() {
        assert_eq!(SPECIAL_PAGES.start.0, 0xFEFF_8000);
        assert_eq!(SPECIAL_PAGES.start.0 >> 12, SPECIAL_GFNS.start);
        assert_eq!(
            SPECIAL_PAGES.end().map(|end| end.0 >> 12),
            Some(SPECIAL_GFNS.end)
        );
    }
}
