//! Limits on the memory that opening a file may take.

/// How much memory a file may take before it is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest kernel that is unpacked, in bytes. Default: 1 GiB, as Xen's.
    pub max_unpacked_bytes: u64,
    /// The longest packed file, and the longest file from a pipe, in bytes. A plain ELF file is not
    /// read into memory and may be longer. Default: 1 GiB.
    pub max_file_bytes: u64,
    /// The largest window (dictionary) of xz, lzma or zstd, in bytes. Default: 256 MiB, twice the
    /// most that the kernel's build uses.
    pub max_window_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_unpacked_bytes: 1 << 30,
            max_file_bytes: 1 << 30,
            max_window_bytes: 256 << 20,
        }
    }
}
