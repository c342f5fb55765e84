//! Where RAM lies in guest-physical space, as a pure function of its size.

use std::io;

use pvh_abi::{Gpa, address::PAGE_SIZE};

/// Where RAM below 4 GiB ends at the latest: the hole above it holds ACPI tables, the interrupt
/// controllers and the special pages of the Xen platform.
pub const LOWMEM_END: Gpa = Gpa(0xFC00_0000);

/// One contiguous range of RAM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a range has a start and a length"
)]
pub struct RamRange {
    /// Its first byte.
    pub start: Gpa,
    /// Its length in bytes, a multiple of the page size and never 0.
    pub len_bytes: u64,
}

/// Why there is no RAM of the size asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// A guest without memory cannot run.
    #[error("a guest needs memory: 0 bytes were asked for")]
    Empty,
    /// The size is not a multiple of the page size.
    #[error("{size_bytes} bytes of memory are not whole pages of {PAGE_SIZE} bytes")]
    NotWholePages {
        /// The size asked for.
        size_bytes: u64,
    },
    /// The RAM would end past the last address a guest can form.
    #[error(
        "{size_bytes} bytes of memory do not fit the guest-physical space of {address_bits} bits: \
         at most {limit_bytes} bytes do"
    )]
    TooLarge {
        /// The size asked for.
        size_bytes: u64,
        /// The largest size that fits.
        limit_bytes: u64,
        /// Width of a guest-physical address on this host (CPUID 0x8000_0008).
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

/// Returns the RAM ranges of a guest with `size_bytes` of memory: from 0 up to at most
/// [`LOWMEM_END`], the rest from 4 GiB on, as Xen's toolstack lays out a PVH domU.
///
/// `address_bits` is the width of a guest-physical address; widths above the architecture's 52 count
/// as 52.
///
/// # Errors
///
/// [`RamError::Empty`], [`RamError::NotWholePages`], and [`RamError::TooLarge`] when the last byte would
/// lie beyond the guest-physical space.
pub fn ram_layout(size_bytes: u64, address_bits: u8) -> Result<Vec<RamRange>, RamError> {
    if size_bytes == 0 {
        return Err(RamError::Empty);
    }
    if !size_bytes.is_multiple_of(PAGE_SIZE) {
        return Err(RamError::NotWholePages { size_bytes });
    }
    let limit_bytes = largest_ram(address_bits);
    if size_bytes > limit_bytes {
        return Err(RamError::TooLarge {
            size_bytes,
            limit_bytes,
            address_bits,
        });
    }
    let low_bytes = size_bytes.min(LOWMEM_END.0);
    let high_bytes = size_bytes.saturating_sub(low_bytes);
    let low = RamRange {
        start: Gpa(0),
        len_bytes: low_bytes,
    };
    let high = RamRange {
        start: HIGHMEM_START,
        len_bytes: high_bytes,
    };
    Ok([low, high]
        .into_iter()
        .filter(|range| range.len_bytes > 0)
        .collect())
}

/// Returns how much RAM fits below `2^address_bits` with the hole left out.
fn largest_ram(address_bits: u8) -> u64 {
    let space = 1_u64 << address_bits.min(MAX_ADDRESS_BITS);
    let above = space.saturating_sub(HIGHMEM_START.0);
    space.min(LOWMEM_END.0).saturating_add(above)
}

const HIGHMEM_START: Gpa = Gpa(1 << 32);

/// The widest physical address of the architecture.
const MAX_ADDRESS_BITS: u8 = 52;
