//! Maps file ranges over guest RAM, and replaces or discards pages of RAM.
// UNSAFETY: `mmap` with MAP_FIXED replaces pages of a mapping that this crate owns, and `madvise`
// discards what they hold. No safe wrapper offers either.
#![expect(
    unsafe_code,
    reason = "mmap with MAP_FIXED and madvise over a mapping of this crate"
)]

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{Mutex, PoisonError},
};

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{FileRange, MapError};
use vm_memory::MmapRegion;

/// The ranges of guest RAM that files have been mapped over.
#[derive(Debug, Default)]
pub(crate) struct FilePages(Mutex<Vec<(u64, u64)>>);

impl FilePages {
    /// Records that a file was mapped over `len_bytes` at `at`.
    pub(crate) fn add(&self, at: Gpa, len_bytes: u64) {
        let end = at.0.saturating_add(len_bytes);
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.push((at.0, end));
    }

    /// Returns address and length in bytes of each range that a file was mapped over.
    pub(crate) fn ranges(&self) -> Vec<(Gpa, u64)> {
        let ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = ranges.iter();
        let ranges = ranges.map(|&(from, to)| (Gpa(from), to.saturating_sub(from)));
        ranges.collect()
    }

    /// Tells whether a file may be mapped over some page of a range.
    pub(crate) fn overlap(&self, at: Gpa, len_bytes: u64) -> bool {
        let end = at.0.saturating_add(len_bytes);
        let ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().any(|&(from, to)| from < end && at.0 < to)
    }
}

/// Checks a file range, without looking at RAM.
pub(crate) fn check(at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
    let aligned = at.is_aligned(PAGE_SIZE)
        && range.offset.is_multiple_of(PAGE_SIZE)
        && range.len_bytes.is_multiple_of(PAGE_SIZE);
    if !aligned {
        return Err(MapError::Misaligned { at });
    }
    let host = |source| MapError::Host { at, source };
    let file = File::from(range.file.try_clone_to_owned().map_err(host)?);
    let metadata = file.metadata().map_err(host)?;
    let end = range.offset.checked_add(range.len_bytes);
    let file_end = metadata.len().checked_next_multiple_of(PAGE_SIZE);
    if !metadata.is_file() || end.is_none() || end > file_end {
        return Err(host(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Replaces the pages of `mapping` from `offset` on with `range`, which `check` has accepted.
pub(crate) fn map_over(
    mapping: &MmapRegion,
    offset: usize,
    range: FileRange<'_>,
) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let len = usize::try_from(range.len_bytes).map_err(invalid)?;
    let file_offset = libc::off_t::try_from(range.offset).map_err(invalid)?;
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) || len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MAP_FIXED demands that the pages it replaces are ours to replace. By the test above,
    // `start` and the `len > 0` bytes after it lie inside `mapping`. `mapping` is borrowed, so it
    // stays mapped during the call, and the `munmap` of its whole range at its end takes these
    // pages too. Rust holds no reference into them: this crate accesses guest memory only through
    // volatile slices and atomics. These stay valid, because the pages are readable and writable
    // before and after: if the file cannot be mapped, the kernel may have removed the old pages
    // already, and `map_zero_pages` puts new ones in their place before this function returns.
    let mapped = unsafe {
        libc::mmap(
            start.cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            range.file.as_raw_fd(),
            file_offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        let refused = io::Error::last_os_error();
        map_zero_pages(mapping, offset, len);
        return Err(refused);
    }
    Ok(())
}

/// Makes whole pages of anonymous memory from `offset` on read as zeros, without touching them.
///
/// It is not for a private mapping of a file, which would show the file's bytes again: see
/// [`map_zero_pages`].
pub(crate) fn discard_pages(mapping: &MmapRegion, offset: usize, len: usize) -> io::Result<()> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MADV_DONTNEED demands that the pages are ours to discard. By the test above, they lie
    // inside `mapping`, which is borrowed and so stays mapped. They stay readable and writable.
    // Rust holds no reference into them: this crate accesses guest memory only through volatile
    // slices and atomics.
    let dropped = unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
    if dropped != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Copies the pages of a file that are mapped from `offset` on, as a write to each page would.
///
/// If the file has become too short for a page, it returns an error and raises no signal.
pub(crate) fn copy_pages(mapping: &MmapRegion, offset: usize, len: usize) -> io::Result<()> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MADV_POPULATE_WRITE changes neither content nor access rights. It demands that the
    // pages are mapped and writable, as guest RAM is: by the test above, they lie inside `mapping`,
    // which is borrowed and so stays mapped.
    let owned = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
    if owned != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks the host for huge pages in `mapping`, where they fit and no file is mapped.
pub(crate) fn prefer_huge_pages(mapping: &MmapRegion) -> io::Result<()> {
    // SAFETY: MADV_HUGEPAGE changes neither content nor access rights. It demands that the pages
    // are mapped, which they are as long as `mapping` is borrowed.
    let advised =
        unsafe { libc::madvise(mapping.as_ptr().cast(), mapping.size(), libc::MADV_HUGEPAGE) };
    if advised != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Replaces pages with zeroed ones; also after a mapping has failed, which may have left a hole.
///
/// It ends the process if the host refuses: guest memory with a hole must not be touched again.
pub(crate) fn map_zero_pages(mapping: &MmapRegion, offset: usize, len: usize) {
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: as in `map_over`, whose test of `offset` and `len` holds here: the replaced pages, or
    // the hole in their place, lie inside `mapping`, which is borrowed. They are readable and
    // writable afterwards.
    let mapped = unsafe {
        libc::mmap(
            start.cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        std::process::abort();
    }
}
