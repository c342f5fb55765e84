//! How a commit fills guest memory.

/// How the bytes of files get into guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// They are copied.
    Copy,
    /// Whole pages are mapped, private and copy-on-write
    /// ([`GuestMemory::map_file`](pvh_memory::GuestMemory::map_file)). The rest is copied, and so
    /// is everything that the guest memory cannot map or that is not in a file as it is.
    ///
    /// A mapping is not a snapshot: a page that the guest has not written to shows later changes of
    /// the file. If the file is truncated, the pages past its end are lost, even those that the
    /// guest has written to. An access from this process then raises SIGBUS, and an access from the
    /// guest ends the run of its vCPU. Map only files that nobody changes in place; replacing a
    /// file by renaming is safe.
    Map,
}
