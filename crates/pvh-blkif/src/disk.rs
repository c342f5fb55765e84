//! What a disk is, and what its back end tells the guest about it.

use crate::{Area, MAX_INDIRECT_SEGMENTS, SECTOR_BYTES};

/// A disk as the guest sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Disk {
    sectors: u64,
    is_read_only: bool,
    is_cdrom: bool,
    physical_bytes: u32,
    discard: Option<DiscardSupport>,
}

/// Which parts of a disk can be given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "blkif.h has these three keys")]
pub struct DiscardSupport {
    /// The size of a part that can be given back, in bytes.
    pub granularity_bytes: u32,
    /// Where the first such part begins, in bytes from the start of the disk.
    pub alignment_bytes: u32,
    /// Whether a discard can make the data unrecoverable.
    pub has_secure: bool,
}

/// Why there can be no such disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A size that is 0 or no multiple of 512.
    #[error("a disk of {len_bytes} bytes is refused: the size must be a multiple of 512 above 0")]
    Size {
        /// The size that was given.
        len_bytes: u64,
    },
    /// A physical sector size that is no power of two, or below 512.
    #[error(
        "a physical sector size of {bytes} bytes is refused: it must be a power of two and at least 512"
    )]
    PhysicalSector {
        /// The size that was given.
        bytes: u32,
    },
}

impl Disk {
    /// A disk that can be read and written, of `len_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`DiskError::Size`].
    pub const fn new(len_bytes: u64) -> Result<Self, DiskError> {
        if len_bytes == 0 || !len_bytes.is_multiple_of(512) {
            return Err(DiskError::Size { len_bytes });
        }
        let sectors = len_bytes / 512;
        Ok(Self {
            sectors,
            is_read_only: false,
            is_cdrom: false,
            physical_bytes: SECTOR_BYTES,
            discard: None,
        })
    }

    /// Makes the disk read-only: writes and discards are refused, and the guest is told so.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// Makes the disk a CD-ROM, which is read-only.
    #[must_use]
    pub const fn cdrom(mut self) -> Self {
        self.is_cdrom = true;
        self.read_only()
    }

    /// Tells the guest the size in which the storage below works, in bytes.
    ///
    /// # Errors
    ///
    /// [`DiskError::PhysicalSector`].
    pub const fn with_physical_sectors(mut self, bytes: u32) -> Result<Self, DiskError> {
        if !bytes.is_power_of_two() || bytes < SECTOR_BYTES {
            return Err(DiskError::PhysicalSector { bytes });
        }
        self.physical_bytes = bytes;
        Ok(self)
    }

    /// Offers the guest to give parts of the disk back.
    #[must_use]
    pub const fn with_discard(mut self, support: DiscardSupport) -> Self {
        self.discard = Some(support);
        self
    }

    /// Returns the size in sectors of 512 bytes.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Returns whether writes are refused.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(crate) const fn discard(&self) -> Option<DiscardSupport> {
        self.discard
    }

    /// The area of `count` sectors from `sector` on; `None` if the disk has not all of them.
    pub(crate) fn area(&self, sector: u64, count: u64) -> Option<Area> {
        let end = sector.checked_add(count)?;
        if end > self.sectors {
            return None;
        }
        let bytes = u64::from(SECTOR_BYTES);
        // In bytes it may still be past 2^64.
        Some(Area {
            offset: sector.checked_mul(bytes)?,
            len_bytes: count.checked_mul(bytes)?,
        })
    }

    /// Returns the keys that the back end writes before it enters `XenbusStateConnected`. A disk
    /// that has changed its size writes them again, and its state once more.
    ///
    /// `sectors` counts in 512 bytes and `sector-size` is 512 whatever the storage has: front ends
    /// disagree about any other size.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, String)> {
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let info = flag(self.is_cdrom, VDISK_CDROM) | flag(self.is_read_only, VDISK_READONLY);
        let discard = self.discard.filter(|_| !self.is_read_only);
        let discard = discard.into_iter().flat_map(|support| {
            [
                ("feature-discard", 1),
                ("discard-granularity", support.granularity_bytes),
                ("discard-alignment", support.alignment_bytes),
                ("discard-secure", u32::from(support.has_secure)),
            ]
        });
        let numbers = [
            ("info", info),
            ("sector-size", SECTOR_BYTES),
            ("physical-sector-size", self.physical_bytes),
            ("feature-flush-cache", 1),
        ];
        let numbers = numbers.into_iter().chain(discard);
        let numbers = numbers.map(|(key, value)| (key, value.to_string()));
        let mode = if self.is_read_only { "r" } else { "w" };
        let texts = [
            ("sectors", self.sectors.to_string()),
            ("mode", mode.to_owned()),
        ];
        texts.into_iter().chain(numbers)
    }
}

/// What the back end offers to the front end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Features {
    pub(crate) max_queues: u32,
    pub(crate) max_ring_order: u32,
    pub(crate) max_indirect_segments: u16,
}

impl Features {
    /// Offers `max_queues` queues (at least 1) with rings of up to `2^max_ring_order` pages (at
    /// most 16), and indirect requests of up to `max_indirect_segments` segments (at most 256; 0
    /// offers none). Larger numbers are taken as the largest.
    ///
    /// A guest can make a back end hold at most queues x slots x segments granted pages at a time:
    /// 32 x 256 for one queue of one page.
    #[must_use]
    pub fn new(max_queues: u32, max_ring_order: u32, max_indirect_segments: u16) -> Self {
        Self {
            max_queues: max_queues.max(1),
            max_ring_order: max_ring_order.min(MAX_RING_ORDER),
            max_indirect_segments: max_indirect_segments.min(MAX_INDIRECT_SEGMENTS),
        }
    }

    /// Returns the keys that the back end writes before it enters `XenbusStateInitWait`. Both
    /// spellings of the largest ring are there, for front ends know one or the other.
    ///
    /// Persistent grants are not offered: they make the guest copy all data, and this back end
    /// reaches the guest's pages without mapping them.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let segments = self.max_indirect_segments;
        let indirect = (segments > 0).then_some(("feature-max-indirect-segments", segments.into()));
        let pages = 1_u32.checked_shl(self.max_ring_order).unwrap_or(1);
        let keys = [
            ("max-ring-page-order", self.max_ring_order),
            ("max-ring-pages", pages),
            ("multi-queue-max-queues", self.max_queues),
        ];
        let keys = keys.into_iter().chain(indirect);
        keys.map(|(key, value)| (key, value.to_string()))
    }
}

impl Default for Features {
    /// One queue, rings of up to 16 pages, 256 indirect segments.
    fn default() -> Self {
        Self::new(1, MAX_RING_ORDER, MAX_INDIRECT_SEGMENTS)
    }
}

const MAX_RING_ORDER: u32 = 4;
const VDISK_CDROM: u32 = 1;
const VDISK_READONLY: u32 = 4;
