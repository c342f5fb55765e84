//! Bounds on the memory that opening a file may use.

/// How much a file may cost before it is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest kernel that is unpacked, in bytes. Default: 1 GiB, as Xen's.
    pub max_unpacked_bytes: u64,
    /// The longest file that is read into memory: what comes through a pipe or packed. A plain ELF file is not
    /// bounded by it. Default: 1 GiB.
    pub max_file_bytes: u64,
    /// The largest window (dictionary) that xz, lzma or zstd may ask for. Default: 256 MiB, twice what the
    /// kernel's build uses at most.
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
