//! Mapping a file range over guest RAM, and giving the pages back.
// UNSAFETY: `mmap` with MAP_FIXED replaces pages of a mapping of ours, `madvise` drops what they hold; no safe
// wrapper offers either.
#![expect(
    unsafe_code,
    reason = "mmap with MAP_FIXED and madvise over a mapping of ours"
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
    /// Notes that a file was mapped over `len_bytes` at `at`.
    pub(crate) fn add(&self, at: Gpa, len_bytes: u64) {
        let end = at.0.saturating_add(len_bytes);
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.push((at.0, end));
    }

    /// Returns the ranges that files were mapped over, address and length.
    pub(crate) fn ranges(&self) -> Vec<(Gpa, u64)> {
        let ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = ranges.iter();
        let ranges = ranges.map(|&(from, to)| (Gpa(from), to.saturating_sub(from)));
        ranges.collect()
    }

    /// Tells whether a file may be mapped in some page of a range.
    pub(crate) fn overlap(&self, at: Gpa, len_bytes: u64) -> bool {
        let end = at.0.saturating_add(len_bytes);
        let ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().any(|&(from, to)| from < end && at.0 < to)
    }
}

/// Checks what can be known of a file range before RAM is looked at.
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

/// Replaces the pages of `mapping` from `offset` on by `range`, which `check` has accepted.
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
    // SAFETY: MAP_FIXED demands that the pages it replaces are ours to replace. `start` and the
    // `len > 0` bytes after it lie inside `mapping`, by the test above; `mapping` is borrowed, so it stays
    // mapped during the call, and `munmap` of its whole range at its end takes these pages too. Rust
    // holds no reference into them: guest memory is only accessed through volatile slices and
    // atomics, which stay valid, because the pages are readable and writable before and after: if the
    // file cannot be mapped, the kernel may have taken the old pages away already, and `map_zero_pages` puts fresh
    // ones in their place before anyone is told.
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

/// Has the whole pages of anonymous memory from `offset` on read as zeros, without touching them.
///
/// A private mapping of a file would show the file again instead: that takes [`map_zero_pages`].
pub(crate) fn discard_pages(mapping: &MmapRegion, offset: usize, len: usize) -> io::Result<()> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MADV_DONTNEED demands that the pages are ours to drop: they lie inside `mapping`, by the test above,
    // which is borrowed and so stays mapped. They stay readable and writable. Rust holds no reference into
    // them: guest memory is only accessed through volatile slices and atomics.
    let dropped = unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
    if dropped != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives this process pages of its own from `offset` on, as a write to each would: those of a file are copied.
///
/// Where the file has become too short for a page, it is refused, and no signal is raised.
pub(crate) fn copy_pages(mapping: &MmapRegion, offset: usize, len: usize) -> io::Result<()> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MADV_POPULATE_WRITE changes no content and no access; it demands that the pages are mapped and writable, which
    // those of guest RAM are: they lie inside `mapping`, by the test above, which is borrowed and so stays mapped.
    let owned = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
    if owned != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks the host for huge pages in `mapping`, wherever they fit and nothing is mapped from a file.
pub(crate) fn prefer_huge_pages(mapping: &MmapRegion) -> io::Result<()> {
    // SAFETY: MADV_HUGEPAGE changes no content and no access; it demands that the pages are mapped, which they are
    // as long as `mapping` is borrowed.
    let advised =
        unsafe { libc::madvise(mapping.as_ptr().cast(), mapping.size(), libc::MADV_HUGEPAGE) };
    if advised != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts zeroed pages in place of mapped ones, or where a mapping has failed: the host may have left a hole there.
///
/// It ends the process when the host refuses: guest memory with a hole must not be touched again.
pub(crate) fn map_zero_pages(mapping: &MmapRegion, offset: usize, len: usize) {
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: as in `map_over`, whose test of `offset` and `len` holds here: the pages replaced, or the hole
    // that is left of them, lie inside `mapping`, which is borrowed. They are readable and writable afterwards.
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
