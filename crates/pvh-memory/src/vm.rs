//! vm-memory's guest memory as this crate's.

use alloc::{format, vec::Vec};
use core::{
    iter,
    ops::Deref,
    sync::atomic::{AtomicU32, AtomicU64},
};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::fd::{AsRawFd, BorrowedFd},
};

use pvh_abi::Gpa;
use vm_memory::{
    AtomicInteger, Bytes, GuestMemoryError, GuestMemoryRegion, MemoryRegionAddress, VolatileMemory,
    bitmap::Bitmap,
};

use crate::{FileRange, FillError, GuestMemory, MemoryError, WordOp, map::fill_by_buffer};

/// Guest memory in the regions of rust-vmm's vm-memory.
///
/// It is made of regions and not of a whole `GuestMemory`, because the region trait is what
/// versions 0.17 and 0.18 have in common. `Region` is anything that points to one: a reference, or
/// an `Arc` where the memory must live as long as a thread.
///
/// Bytes are copied as the region's own `Bytes` does it, and atomic words go through its
/// `VolatileSlice`; both mark the dirty bitmap. A region without host addresses (its `get_slice`
/// fails) has no atomic words: [`MemoryError::Backend`].
///
/// # Example
///
/// ```
/// use pvh_abi::Gpa;
/// use pvh_memory::{GuestMemory as _, VmMemory, WordOp};
/// use vm_memory::*; // `iter` is in `GuestMemory` of 0.17, in `GuestMemoryBackend` of 0.18
///
/// let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)];
/// let ram = GuestMemoryMmap::<()>::from_ranges(&ranges)?;
/// let memory = VmMemory::new(ram.iter());
///
/// memory.write(Gpa(0x0ffe), b"both")?;
/// let before = memory.atomic_u32(Gpa(0x0ffc), WordOp::Or(1))?;
/// assert_eq!(before.to_le_bytes(), *b"\0\0bo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct VmMemory<Region> {
    /// By address.
    regions: Vec<Region>,
}

/// The part of a range that lies in one region.
struct Piece<'memory, Region: ?Sized> {
    region: &'memory Region,
    offset: MemoryRegionAddress,
    len_bytes: u64,
}

impl<Region: Deref<Target: GuestMemoryRegion>> VmMemory<Region> {
    /// Makes guest memory of regions, in any order, that do not overlap.
    ///
    /// Where they do, the one that begins last is the RAM; vm-memory's own collections refuse that.
    pub fn new(regions: impl IntoIterator<Item = Region>) -> Self {
        let mut regions: Vec<Region> = regions.into_iter().collect();
        regions.sort_by_key(|region| region.start_addr());
        Self { regions }
    }

    /// The region's part of `len_bytes` at `at`, from `at` on; `None` in a hole.
    fn piece(&self, at: Gpa, len_bytes: u64) -> Option<Piece<'_, Region::Target>> {
        let not_above = |region: &Region| region.start_addr().0 <= at.0;
        let index = self.regions.partition_point(not_above).checked_sub(1)?;
        let region = &**self.regions.get(index)?;
        let offset = at.0.checked_sub(region.start_addr().0)?;
        let left = region.len().checked_sub(offset).filter(|&left| left > 0)?;
        Some(Piece {
            region,
            offset: MemoryRegionAddress(offset),
            len_bytes: left.min(len_bytes),
        })
    }

    /// The pieces of a range in turn; a `None` stands for a hole or the end of the address space,
    /// and is the last.
    fn pieces(
        &self,
        at: Gpa,
        len_bytes: u64,
    ) -> impl Iterator<Item = Option<Piece<'_, Region::Target>>> {
        let mut rest = (len_bytes > 0).then_some((Some(at), len_bytes));
        iter::from_fn(move || {
            let (here, wanted) = rest.take()?;
            let Some((here, piece)) = here.and_then(|here| Some((here, self.piece(here, wanted)?)))
            else {
                return Some(None);
            };
            let more = wanted.checked_sub(piece.len_bytes).filter(|&more| more > 0);
            rest = more.map(|more| (here.checked_add(piece.len_bytes), more));
            Some(Some(piece))
        })
    }

    /// Refuses a range that is not all RAM, then calls `copy` for each piece with its place in the
    /// range.
    fn for_each_piece(
        &self,
        at: Gpa,
        len: usize,
        mut copy: impl FnMut(Piece<'_, Region::Target>, core::ops::Range<usize>) -> Option<()>,
    ) -> Result<(), MemoryError> {
        let len_bytes = u64::try_from(len).unwrap_or(u64::MAX);
        if !self.is_ram(at, len_bytes) {
            return Err(MemoryError::NotRam { at, len_bytes });
        }
        let mut done = 0_usize;
        for piece in self.pieces(at, len_bytes).flatten() {
            let start = done;
            done = done.saturating_add(usize::try_from(piece.len_bytes).unwrap_or(usize::MAX));
            copy(piece, start..done).ok_or(MemoryError::Backend { at })?;
        }
        Ok(())
    }

    /// Applies `change` to the aligned word at `at`, where it lies in host memory.
    fn word<A: AtomicInteger>(
        &self,
        at: Gpa,
        changes: bool,
        change: impl FnOnce(&A) -> A::V,
    ) -> Result<A::V, MemoryError> {
        let size_bytes = size_of::<A>();
        MemoryError::check_aligned(at, size_bytes)?;
        let len_bytes = u64::try_from(size_bytes).unwrap_or(u64::MAX);
        if !self.is_ram(at, len_bytes) {
            return Err(MemoryError::NotRam { at, len_bytes });
        }
        let backend = MemoryError::Backend { at };
        let piece = self.piece(at, len_bytes).ok_or(backend)?;
        let slice = piece.region.get_slice(piece.offset, size_bytes);
        let slice = slice.map_err(|_| backend)?;
        let word = slice.get_atomic_ref::<A>(0).map_err(|_| backend)?;
        let before = change(word);
        if changes {
            slice.bitmap().mark_dirty(0, size_bytes);
        }
        Ok(before)
    }
}

impl<Region: Deref<Target: GuestMemoryRegion>> GuestMemory for VmMemory<Region> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.pieces(at, len_bytes).all(|piece| piece.is_some())
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.for_each_piece(at, buf.len(), |piece, place| {
            let buf = buf.get_mut(place)?;
            piece.region.read_slice(buf, piece.offset).ok()
        })
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.for_each_piece(at, bytes.len(), |piece, place| {
            let bytes = bytes.get(place)?;
            piece.region.write_slice(bytes, piece.offset).ok()
        })
    }

    /// Has the host read into the regions, through their volatile slices.
    ///
    /// These read at a file's position. So a longer range is read from a second opening of the file
    /// (`/proc/self/fd`), which has a position of its own; where that is refused, and for a short
    /// range, the bytes go through a buffer.
    fn fill(&self, at: Gpa, range: FileRange<'_>) -> Result<(), FillError> {
        let (offset, len_bytes) = (range.offset, range.len_bytes);
        if !self.is_ram(at, len_bytes) {
            return Err(FillError::Memory(MemoryError::NotRam { at, len_bytes }));
        }
        let is_long = len_bytes >= REOPENED_BYTES_MIN;
        let reopened = is_long.then(|| reopen(range.file, offset).ok()).flatten();
        let Some(mut file) = reopened else {
            return fill_by_buffer(self, at, range);
        };
        let mut done = 0_u64;
        for piece in self.pieces(at, len_bytes).flatten() {
            let from = offset.saturating_add(done);
            let len = usize::try_from(piece.len_bytes).unwrap_or(usize::MAX);
            let region = piece.region;
            let read = region.read_exact_volatile_from(piece.offset, &mut file, len);
            read.map_err(|error| match error {
                GuestMemoryError::IOError(source) => FillError::Read {
                    offset: from,
                    source,
                },
                _ => FillError::Memory(MemoryError::Backend { at }),
            })?;
            done = done.saturating_add(piece.len_bytes);
        }
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.word(at, op != WordOp::Load, |word: &AtomicU32| op.apply_to(word))
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.word(at, op != WordOp::Load, |word: &AtomicU64| op.apply_to(word))
    }
}

/// Opens a file again, at `offset`.
fn reopen(file: BorrowedFd<'_>, offset: u64) -> io::Result<File> {
    let mut again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    again.seek(SeekFrom::Start(offset))?;
    Ok(again)
}

/// A shorter range is copied through a buffer: opening a file again takes some microseconds.
const REOPENED_BYTES_MIN: u64 = 256 << 10;
