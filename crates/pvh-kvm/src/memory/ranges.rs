//! Which guest-physical ranges can be mapped, as a pure function of the ranges.

use std::io;

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};

use super::reserved::{IDENTITY_MAP_AT, KVM_PRIVATE_BYTES};

/// Why guest memory cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// A guest without memory cannot run.
    #[error("a guest needs memory: there is no RAM range")]
    Empty,
    /// A range is empty, or does not start and end on a page boundary.
    #[error("guest memory {range} is not whole pages of {PAGE_SIZE} bytes")]
    NotWholePages {
        /// The range.
        range: GuestRange,
    },
    /// RAM ranges are out of order, or two ranges share a byte.
    #[error("guest memory {range} overlaps the range before it, or is out of order")]
    Order {
        /// The second of the two ranges.
        range: GuestRange,
    },
    /// A range covers the page of the local APIC, or pages that KVM keeps for itself.
    #[error("guest memory {range} covers {reserved}, which the local APIC or KVM uses")]
    Reserved {
        /// The range.
        range: GuestRange,
        /// The pages that cannot be memory.
        reserved: GuestRange,
    },
    /// A range ends past the last address that the guest can form.
    #[error("guest memory {range} ends beyond the {address_bits} bits of a guest-physical address")]
    TooHigh {
        /// The range.
        range: GuestRange,
        /// Width of a guest-physical address in bits.
        address_bits: u8,
    },
    /// The host does not give the address space, even though no page is touched.
    #[error("the host refuses {len_bytes} bytes of address space for guest memory")]
    Host {
        /// Length of the range that was refused, in bytes.
        len_bytes: u64,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

/// Refuses ranges that are not whole pages, out of reach, reserved or in each other's way.
///
/// `ram` and `pages` each come in ascending order; ranges that touch are accepted.
pub(crate) fn check(
    ram: &[GuestRange],
    pages: &[GuestRange],
    address_bits: u8,
) -> Result<(), RamError> {
    if ram.is_empty() {
        return Err(RamError::Empty);
    }
    for list in [ram, pages] {
        let mut free_from = Gpa(0);
        for &range in list {
            check_one(range, address_bits)?;
            if range.start < free_from {
                return Err(RamError::Order { range });
            }
            free_from = Gpa(range.start.0.saturating_add(range.len_bytes));
        }
    }
    let meets_ram = |page: &&GuestRange| ram.iter().any(|range| range.overlaps(**page));
    match pages.iter().find(meets_ram) {
        Some(&range) => Err(RamError::Order { range }),
        None => Ok(()),
    }
}

fn check_one(range: GuestRange, address_bits: u8) -> Result<(), RamError> {
    let is_whole = range.start.is_aligned(PAGE_SIZE) && range.len_bytes.is_multiple_of(PAGE_SIZE);
    if !is_whole || range.len_bytes == 0 {
        return Err(RamError::NotWholePages { range });
    }
    let space = 1_u64 << address_bits.min(MAX_ADDRESS_BITS);
    if range.end().is_none_or(|end| end.0 > space) {
        return Err(RamError::TooHigh {
            range,
            address_bits,
        });
    }
    match RESERVED.into_iter().find(|&pages| range.overlaps(pages)) {
        Some(reserved) => Err(RamError::Reserved { range, reserved }),
        None => Ok(()),
    }
}

/// The page at which the local APICs answer, and the pages KVM keeps for itself.
const RESERVED: [GuestRange; 2] = [
    GuestRange::new(Gpa(0xFEE0_0000), PAGE_SIZE),
    GuestRange::new(IDENTITY_MAP_AT, KVM_PRIVATE_BYTES),
];

/// The widest physical address of the architecture.
const MAX_ADDRESS_BITS: u8 = 52;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(ram: &[(u64, u64)], pages: &[(u64, u64)], address_bits: u8) -> String {
        let ranges = |list: &[(u64, u64)]| {
            let ranges = list.iter();
            let ranges = ranges.map(|&(start, len_bytes)| GuestRange::new(Gpa(start), len_bytes));
            ranges.collect::<Vec<_>>()
        };
        match check(&ranges(ram), &ranges(pages), address_bits) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ranges_that_touch_are_accepted() {
        let ram = [(0, 0xFC00_0000), (0x1_0000_0000, 0x1000)];
        assert_eq!(refusal(&ram, &[], 46), "");
        assert_eq!(
            refusal(&ram, &[(0xFC00_0000, 0x2000), (0xFEFF_8000, 0x8000)], 46),
            ""
        );
        assert_eq!(refusal(&[(0, 0x1000), (0x1000, 0x1000)], &[], 46), "");
    }

    #[test]
    fn no_ram_is_refused() {
        assert_eq!(
            refusal(&[], &[(0x1000, 0x1000)], 46),
            "a guest needs memory: there is no RAM range"
        );
    }

    #[test]
    fn a_range_that_is_not_whole_pages_is_refused() {
        for range in [(0x800, 0x1000), (0, 0x1800), (0x1000, 0)] {
            assert!(refusal(&[range], &[], 46).ends_with("is not whole pages of 4096 bytes"));
            assert!(
                refusal(&[(0x10_0000, 0x1000)], &[range], 46)
                    .ends_with("is not whole pages of 4096 bytes")
            );
        }
    }

    #[test]
    fn ranges_that_overlap_or_are_out_of_order_are_refused() {
        let error = refusal(&[(0, 0x2000), (0x1000, 0x1000)], &[], 46);
        assert_eq!(
            error,
            "guest memory 0x1000..0x2000 overlaps the range before it, or is out of order"
        );
        assert!(refusal(&[(0x1000, 0x1000), (0, 0x1000)], &[], 46).ends_with("out of order"));
        assert!(refusal(&[(0, 0x2000)], &[(0x1000, 0x1000)], 46).ends_with("out of order"));
        let pages = [(0x9000, 0x1000), (0x8000, 0x1000)];
        assert!(refusal(&[(0, 0x2000)], &pages, 46).ends_with("out of order"));
    }

    #[test]
    fn the_pages_of_the_local_apic_and_of_kvm_are_no_memory() {
        for page in [0xFEE0_0000, 0xFFFB_C000, 0xFFFB_F000] {
            let error = refusal(&[(0, 0x1000)], &[(page, 0x1000)], 46);
            assert!(
                error.ends_with("which the local APIC or KVM uses"),
                "{error}"
            );
        }
        for page in [0xFEDF_F000, 0xFEE0_1000, 0xFFFB_B000, 0xFFFC_0000] {
            assert_eq!(refusal(&[(0, 0x1000)], &[(page, 0x1000)], 46), "");
        }
        assert!(refusal(&[(0, 1 << 32)], &[], 46).contains("0xfee00000..0xfee01000"));
    }

    #[test]
    fn a_range_ends_within_the_guests_addresses() {
        assert_eq!(refusal(&[(0, 1 << 31)], &[], 31), "");
        assert_eq!(
            refusal(&[(0, (1 << 31) + 0x1000)], &[], 31),
            "guest memory 0x0..0x80001000 ends beyond the 31 bits of a guest-physical address"
        );
        assert!(refusal(&[(!0xFFF, 0x1000)], &[], 64).contains("ends beyond"));
        assert_eq!(refusal(&[(1 << 51, 1 << 51)], &[], 64), "");
    }
}
