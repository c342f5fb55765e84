//! How a commit fills guest memory.

/// How the bytes of files get into guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// They are read and written.
    Copy,
    /// Whole pages are mapped, private and copy-on-write ([`GuestMemory::map_file`](pvh_memory::GuestMemory::map_file)); the rest is copied, and
    /// everything where the memory cannot map, or the bytes are not in a file as they are.
    ///
    /// This is no snapshot: a page that the guest has not written to follows later changes of the file. When the file is
    /// cut short, the pages beyond its end are lost, written ones too: an access from this process raises SIGBUS, one
    /// of the guest's ends the run of its vCPU. Take it for files that nobody changes in place; to replace one
    /// by renaming is harmless.
    Map,
}
