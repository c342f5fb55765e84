//! How a kernel file is packed.

use super::codec::Codec;

/// In what a kernel came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// An ELF.
    Elf,
    /// An ELF packed by gzip.
    GzippedElf,
    /// A Linux bzImage.
    BzImage {
        /// How its payload is packed.
        codec: Codec,
    },
    /// A Linux bzImage which is packed by gzip once more.
    GzippedBzImage {
        /// How its payload is packed.
        codec: Codec,
    },
}
