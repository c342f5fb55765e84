//! How a kernel file is packed.

use super::codec::Codec;

/// The file format of a kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// An ELF.
    Elf,
    /// A gzipped ELF.
    GzippedElf,
    /// A Linux bzImage.
    BzImage {
        /// How the payload is compressed.
        codec: Codec,
    },
    /// A gzipped Linux bzImage.
    GzippedBzImage {
        /// How the payload is compressed.
        codec: Codec,
    },
}
