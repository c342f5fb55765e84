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
    ops::Range,
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

    /// Records that no file is mapped over a range any more.
    pub(crate) fn remove(&self, at: Gpa, len_bytes: u64) {
        let (start, end) = (at.0, at.0.saturating_add(len_bytes));
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = ranges.drain(..).flat_map(|(from, to)| {
            let before = (from, to.min(start));
            let after = (from.max(end), to);
            [before, after]
        });
        *ranges = parts.filter(|(from, to)| from < to).collect();
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

/// Why the host did not replace pages of guest memory.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) source: io::Error,
    /// Whether the old pages are gone, and no new ones are in their place.
    pub(crate) is_lost: bool,
}

impl From<io::ErrorKind> for Refused {
    fn from(kind: io::ErrorKind) -> Self {
        Self {
            source: kind.into(),
            is_lost: false,
        }
    }
}

/// Replaces the pages of `mapping` from `offset` on with `range`, which `check` has accepted.
///
/// If the host refuses, the pages hold what they held or zeros, unless they are lost.
pub(crate) fn map_over(
    mapping: &MmapRegion,
    offset: usize,
    range: FileRange<'_>,
) -> Result<(), Refused> {
    let invalid = |_| io::ErrorKind::InvalidInput;
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
    // before and after. If the file cannot be mapped, the kernel may have removed the old pages
    // already; then new ones take their place below, or the caller is told that they are lost, and
    // `GuestRam` refuses every later access to them.
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
        let source = io::Error::last_os_error();
        let is_lost =
            !is_mapped(mapping, offset, len) && map_anonymous(mapping, offset, len).is_err();
        return Err(Refused { source, is_lost });
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

/// Asks the host for huge pages in a part of `mapping`, where they fit and no file is mapped.
pub(crate) fn prefer_huge_pages(mapping: &MmapRegion, part: Range<usize>) -> io::Result<()> {
    let len = part.end.saturating_sub(part.start);
    if part.end > mapping.size() || len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let start = mapping.as_ptr().wrapping_add(part.start);
    // SAFETY: MADV_HUGEPAGE changes neither content nor access rights. It demands that the pages
    // are mapped: by the test above, they lie inside `mapping`, which is borrowed and so stays
    // mapped.
    let advised = unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
    if advised != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns the part of `len` bytes from `offset` on that is made of whole huge pages; `None` if
/// there is none.
pub(crate) fn huge_part(mapping: &MmapRegion, offset: usize, len: usize) -> Option<Range<usize>> {
    let base = mapping.as_ptr().addr();
    let start = base.checked_add(offset)?;
    let end = start.checked_add(len)?;
    let first = start.checked_next_multiple_of(HUGE_PAGE_LEN)?;
    let last = end & !(HUGE_PAGE_LEN - 1);
    (first < last).then(|| first.wrapping_sub(base)..last.wrapping_sub(base))
}

/// Replaces pages with zeroed ones.
///
/// If the host refuses, the pages hold what they held, unless they are lost.
pub(crate) fn map_zero_pages(
    mapping: &MmapRegion,
    offset: usize,
    len: usize,
) -> Result<(), Refused> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > mapping.size()) || len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    map_anonymous(mapping, offset, len).map_err(|source| Refused {
        source,
        is_lost: !is_mapped(mapping, offset, len),
    })
}

/// Maps zeroed pages over a part of `mapping`, or where a failed call has left none.
fn map_anonymous(mapping: &MmapRegion, offset: usize, len: usize) -> io::Result<()> {
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: as in `map_over`; both callers have tested `offset` and `len` as it does. So the
    // replaced pages, or the hole in their place, lie inside `mapping`, which is borrowed. The
    // pages are readable and writable afterwards; if the call fails and has removed them, they are
    // lost.
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
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells whether every page of a part of `mapping` is mapped: the kernel refuses a mapping over it
/// in most cases before it removes anything.
fn is_mapped(mapping: &MmapRegion, offset: usize, len: usize) -> bool {
    let start = mapping.as_ptr().wrapping_add(offset);
    // SAFETY: MADV_NORMAL has no demands on the pages and changes neither content nor access
    // rights. It sets the default read-ahead, which these pages have, and fails if some page is not
    // mapped.
    let advised = unsafe { libc::madvise(start.cast(), len, libc::MADV_NORMAL) };
    advised == 0
}

/// The length of a huge page.
pub(crate) const HUGE_PAGE_LEN: usize = 2 << 20;
