//! Where RAM lies in guest-physical space, as a pure function of its size.

use alloc::vec::Vec;

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};

/// The highest end of RAM below 4 GiB. The hole above it holds ACPI tables, the interrupt
/// controllers and the special pages of a Xen domain.
pub const LOWMEM_END: Gpa = Gpa(0xFC00_0000);

/// Why a guest cannot have RAM of a size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RamSizeError {
    /// A guest without memory cannot run.
    #[error("memory of 0 bytes: a guest needs at least one page")]
    Empty,
    /// The size is not a multiple of the page size.
    #[error("memory of {size_bytes} bytes is not a multiple of {PAGE_SIZE} bytes")]
    NotWholePages {
        /// The size in bytes.
        size_bytes: u64,
    },
    /// The RAM would end past the last address a guest can form.
    #[error(
        "memory of {size_bytes} bytes is too large: with {address_bits} address bits a guest has \
         at most {limit_bytes} bytes"
    )]
    TooLarge {
        /// The size in bytes.
        size_bytes: u64,
        /// The largest size that fits, in bytes.
        limit_bytes: u64,
        /// Width of a guest-physical address in bits.
        address_bits: u8,
    },
}

/// Returns the RAM ranges of a guest with `size_bytes` of memory: from 0 up to at most
/// [`LOWMEM_END`], the rest from 4 GiB on, as Xen's toolstack lays out a PVH domU.
///
/// `address_bits` is the width of a guest-physical address; widths above the architecture's 52
/// count as 52.
///
/// # Errors
///
/// [`RamSizeError::Empty`], [`RamSizeError::NotWholePages`], and [`RamSizeError::TooLarge`] when
/// the last byte would lie beyond the guest-physical space.
pub fn ram_layout(size_bytes: u64, address_bits: u8) -> Result<Vec<GuestRange>, RamSizeError> {
    if size_bytes == 0 {
        return Err(RamSizeError::Empty);
    }
    if !size_bytes.is_multiple_of(PAGE_SIZE) {
        return Err(RamSizeError::NotWholePages { size_bytes });
    }
    let limit_bytes = largest_ram(address_bits);
    if size_bytes > limit_bytes {
        return Err(RamSizeError::TooLarge {
            size_bytes,
            limit_bytes,
            address_bits,
        });
    }
    let low_bytes = size_bytes.min(LOWMEM_END.0);
    let high_bytes = size_bytes.saturating_sub(low_bytes);
    let low = GuestRange::new(Gpa(0), low_bytes);
    let high = GuestRange::new(HIGHMEM_START, high_bytes);
    Ok([low, high]
        .into_iter()
        .filter(|range| range.len_bytes > 0)
        .collect())
}

/// Returns the size of the RAM that fits below `2^address_bits` beside the hole, in bytes.
fn largest_ram(address_bits: u8) -> u64 {
    let space = 1_u64 << address_bits.min(MAX_ADDRESS_BITS);
    let above = space.saturating_sub(HIGHMEM_START.0);
    space.min(LOWMEM_END.0).saturating_add(above)
}

const HIGHMEM_START: Gpa = Gpa(1 << 32);

/// The widest physical address of the architecture.
const MAX_ADDRESS_BITS: u8 = 52;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    extern crate std;

    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn ranges(size_bytes: u64, address_bits: u8) -> Vec<(u64, u64)> {
        let layout = ram_layout(size_bytes, address_bits).unwrap();
        let pairs = layout.iter().map(|range| (range.start.0, range.len_bytes));
        pairs.collect()
    }

    /// After libxl (libxl_dom.c, build_hvm): RAM from 0 to min(size, 0xfc000000), the rest from 4
    /// GiB.
    #[test]
    fn ram_ends_below_the_hole_and_goes_on_at_4_gib() {
        assert_eq!(ranges(0x1000, 46), [(0, 0x1000)]);
        assert_eq!(ranges(0xfc00_0000, 46), [(0, 0xfc00_0000)]);
        assert_eq!(
            ranges(0xfc00_1000, 46),
            [(0, 0xfc00_0000), (0x1_0000_0000, 0x1000)]
        );
        assert_eq!(
            ranges(0x2_0000_0000, 46),
            [(0, 0xfc00_0000), (0x1_0000_0000, 0x1_0400_0000)]
        );
    }

    #[test]
    fn a_guest_without_memory_is_refused() {
        assert!(matches!(ram_layout(0, 46), Err(RamSizeError::Empty)));
    }

    #[test]
    fn a_part_of_a_page_is_refused() {
        let error = ram_layout(0x1001, 46).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of 4097 bytes is not a multiple of 4096 bytes"
        );
    }

    #[test]
    fn memory_beyond_the_guest_physical_space_is_refused_with_the_limit() {
        // 36 bits are 64 GiB; the hole takes 64 MiB of them.
        let limit = (64 << 30) - (64 << 20);
        assert_eq!(
            ranges(limit, 36),
            [(0, 0xfc00_0000), (0x1_0000_0000, 60 << 30)]
        );
        let error = ram_layout(limit + 0x1000, 36).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of 68652371968 bytes is too large: with 36 address bits a guest has at most \
             68652367872 bytes"
        );
        assert!(matches!(
            ram_layout(!0xFFF, 64),
            Err(RamSizeError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_space_below_4_gib_has_no_second_range() {
        assert_eq!(ranges(0xfc00_0000, 32), [(0, 0xfc00_0000)]);
        assert!(ram_layout(0xfc00_1000, 32).is_err());
        assert_eq!(ranges(1 << 31, 31), [(0, 1 << 31)]);
        assert!(ram_layout((1 << 31) + 0x1000, 31).is_err());
    }

    proptest! {
        #[test]
        fn no_size_puts_ram_into_the_hole_or_past_the_end(pages in 0_u64..1 << 42, bits in 20_u8..=64) {
            let size_bytes = pages << 12;
            let Ok(layout) = ram_layout(size_bytes, bits) else {
                // The space without the hole is too small for it.
                let hole = if bits < 32 { 0 } else { 0x400_0000 };
                prop_assert!(size_bytes == 0 || size_bytes > (1 << bits.min(52)) - hole);
                return Ok(());
            };
            let mut end = 0;
            let mut sum = 0;
            for range in layout {
                let range_end = range.start.0 + range.len_bytes;
                prop_assert!(range.start.0 >= end && range.len_bytes > 0);
                prop_assert!(range.start.0 % 0x1000 == 0 && range.len_bytes % 0x1000 == 0);
                prop_assert!(range_end <= 0xfc00_0000 || range.start.0 >= 0x1_0000_0000);
                prop_assert!(range_end <= 1 << bits.min(52));
                end = range_end;
                sum += range.len_bytes;
            }
            prop_assert_eq!(sum, size_bytes);
        }
    }
}
