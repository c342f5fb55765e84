//! The pages of a ring: one address space of bytes over up to 16 pages.

use pvh_abi::{Gpa, address::PAGE_SIZE};
use pvh_memory::{GuestMemory, MemoryError, WordOp};

use crate::AttachError;

/// The most pages that a ring has: `ring-page-order` 4.
pub const MAX_PAGES: usize = 16;

/// The pages of one ring, in the order of the front end's `ring-ref` keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RingPages {
    pages: [Gpa; MAX_PAGES],
    count: usize,
}

impl RingPages {
    /// Takes the addresses of a ring's pages. Two may be the same: only the guest is harmed by
    /// that.
    ///
    /// # Errors
    ///
    /// [`AttachError::Pages`] unless there are 1, 2, 4, 8 or 16 of them,
    /// [`AttachError::Misaligned`] if one does not begin at a multiple of 4096.
    pub fn new(given: &[Gpa]) -> Result<Self, AttachError> {
        let count = given.len();
        if count > MAX_PAGES || !count.is_power_of_two() {
            return Err(AttachError::Pages { pages: count });
        }
        let mut pages = [Gpa(0); MAX_PAGES];
        for (index, (page, at)) in pages.iter_mut().zip(given).enumerate() {
            if !at.is_aligned(PAGE_SIZE) {
                return Err(AttachError::Misaligned { index, at: *at });
            }
            *page = *at;
        }
        Ok(Self { pages, count })
    }

    /// Returns how many bytes the pages have together, 4096 to 65536.
    #[must_use]
    pub fn len_bytes(&self) -> u32 {
        let pages = u32::try_from(self.count).unwrap_or(0);
        pages.saturating_mul(PAGE_BYTES)
    }

    /// Copies bytes out, across the border of two pages if need be.
    pub(crate) fn read(
        &self,
        memory: &(impl GuestMemory + ?Sized),
        offset: u32,
        buf: &mut [u8],
    ) -> Result<(), MemoryError> {
        let split = Self::bytes_in_page(offset).min(buf.len());
        let (head, tail) = buf.split_at_mut(split);
        memory.read(self.at(offset)?, head)?;
        if tail.is_empty() {
            return Ok(());
        }
        memory.read(self.at(next_page(offset))?, tail)
    }

    /// Copies bytes in, across the border of two pages if need be.
    pub(crate) fn write(
        &self,
        memory: &(impl GuestMemory + ?Sized),
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let split = Self::bytes_in_page(offset).min(bytes.len());
        let (head, tail) = bytes.split_at(split);
        memory.write(self.at(offset)?, head)?;
        if tail.is_empty() {
            return Ok(());
        }
        memory.write(self.at(next_page(offset))?, tail)
    }

    /// Applies an operation to a 32-bit word.
    pub(crate) fn word(
        &self,
        memory: &(impl GuestMemory + ?Sized),
        offset: u32,
        op: WordOp<u32>,
    ) -> Result<u32, MemoryError> {
        memory.atomic_u32(self.at(offset)?, op)
    }

    /// The guest-physical address of a byte of the ring.
    fn at(&self, offset: u32) -> Result<Gpa, MemoryError> {
        let index = usize::try_from(offset / PAGE_BYTES).unwrap_or(usize::MAX);
        let used = self.pages.get(..self.count).unwrap_or_default();
        let page = used.get(index).copied();
        page.and_then(|page| page.checked_add(u64::from(offset % PAGE_BYTES)))
            .ok_or(MemoryError::NotRam {
                at: page.unwrap_or_default(),
                len_bytes: u64::from(offset),
            })
    }

    /// How many bytes of the page of `offset` lie at or behind it.
    fn bytes_in_page(offset: u32) -> usize {
        let left = PAGE_BYTES.saturating_sub(offset % PAGE_BYTES);
        usize::try_from(left).unwrap_or(0)
    }
}

/// The offset of the page behind that of `offset`.
const fn next_page(offset: u32) -> u32 {
    (offset / PAGE_BYTES)
        .saturating_add(1)
        .saturating_mul(PAGE_BYTES)
}

/// [`PAGE_SIZE`] as the type of an offset.
const PAGE_BYTES: u32 = 4096;
