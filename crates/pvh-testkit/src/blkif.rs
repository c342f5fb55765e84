//! The bytes of block requests, laid out by hand after blkif.h.

/// The layout of a block ring's slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "x86 has these two")]
pub enum Layout {
    /// 64-bit guests: 64-bit fields at multiples of 8.
    X86_64,
    /// 32-bit guests: 64-bit fields at multiples of 4.
    X86_32,
}

impl Layout {
    /// The size of a slot in bytes.
    #[must_use]
    pub const fn slot_bytes(self) -> u32 {
        match self {
            Self::X86_64 => 112,
            Self::X86_32 => 108,
        }
    }

    /// The size of a response in bytes.
    #[must_use]
    pub const fn response_bytes(self) -> usize {
        match self {
            Self::X86_64 => 16,
            Self::X86_32 => 12,
        }
    }

    /// The first four bytes, then padding that nobody has to clear, then the id and the sector.
    fn head(self, first: [u8; 4], (id, sector): (u64, u64)) -> Vec<u8> {
        let mut bytes = first.to_vec();
        if self == Self::X86_64 {
            bytes.extend([0xEE; 4]);
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(sector.to_le_bytes());
        bytes
    }
}

/// A segment: its grant reference, its first and its last sector in the page.
#[must_use]
pub const fn segment(reference: u32, first: u8, last: u8) -> [u8; 8] {
    let [a, b, c, d] = reference.to_le_bytes();
    [a, b, c, d, first, last, 0, 0]
}

/// A request that carries its segments: a read, a write or a flush.
#[must_use]
pub fn transfer(
    layout: Layout,
    operation: u8,
    id_and_sector: (u64, u64),
    segments: &[[u8; 8]],
) -> Vec<u8> {
    let count = u8::try_from(segments.len()).unwrap_or(u8::MAX);
    let mut bytes = layout.head([operation, count, 0, 0xCA], id_and_sector);
    bytes.extend(segments.as_flattened());
    bytes
}

/// An indirect request, whose `count` segments are in the pages of `references`.
#[must_use]
pub fn indirect(
    layout: Layout,
    operation: u8,
    id_and_sector: (u64, u64),
    (count, references): (u16, &[u32]),
) -> Vec<u8> {
    let [low, high] = count.to_le_bytes();
    let mut bytes = layout.head([6, operation, low, high], id_and_sector);
    bytes.extend([0, 0xCA, 0xEE, 0xEE]); // the handle, and padding
    bytes.extend(
        references
            .iter()
            .flat_map(|reference| reference.to_le_bytes()),
    );
    bytes
}

/// A discard of `count` sectors.
#[must_use]
pub fn discard(layout: Layout, flag: u8, id_and_sector: (u64, u64), count: u64) -> Vec<u8> {
    let mut bytes = layout.head([5, flag, 0, 0xCA], id_and_sector);
    bytes.extend(count.to_le_bytes());
    bytes
}
