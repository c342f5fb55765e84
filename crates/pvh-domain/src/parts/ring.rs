//! One direction of a byte ring in a page that the guest writes too.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, WordOp};

/// Why no bytes were moved through a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The producer is further ahead of the consumer than the ring is long: the guest wrote a wrong
    /// index.
    #[error("ring indices cons {cons:#x}, prod {prod:#x} lie more than {size_bytes} bytes apart")]
    Inconsistent {
        /// The consumer's index.
        cons: u32,
        /// The producer's index.
        prod: u32,
        /// Size of the ring in bytes.
        size_bytes: u32,
    },
    /// The ring's page is not guest RAM.
    #[error("the page of the ring is not guest RAM")]
    Memory(#[source] MemoryError),
}

impl From<MemoryError> for RingError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

/// Where one ring lies in its page: offsets in bytes, and a size that is a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub(crate) data: u64,
    pub(crate) size_bytes: u32,
    pub(crate) cons: u64,
    pub(crate) prod: u64,
}

impl Ring {
    /// Takes bytes that the guest produced, at most one ring full, and moves the consumer index.
    ///
    /// Order: both indices are read once, then the bytes, then the consumer index is written. The
    /// guest does not overwrite bytes before it sees that index.
    pub(crate) fn take(
        &self,
        memory: &dyn GuestMemory,
        page: Gpa,
        buf: &mut [u8],
    ) -> Result<usize, RingError> {
        let cons = load(memory, page, self.cons)?;
        let prod = load(memory, page, self.prod)?;
        let used = self.used(cons, prod)?;
        let count = len(used).min(buf.len());
        let (before, after) = self.split(cons, count);
        let (head, rest) = buf.split_at_mut(before);
        memory.read(place(page, self.offset(cons))?, head)?;
        if let Some(tail) = rest.get_mut(..after).filter(|tail| !tail.is_empty()) {
            memory.read(place(page, self.data)?, tail)?;
        }
        self.advance(memory, page, self.cons, (cons, count))?;
        Ok(count)
    }

    /// Puts bytes for the guest into the ring, as many as fit, and moves the producer index.
    ///
    /// Order: both indices are read once, then the bytes are written, then the producer index. The
    /// guest does not look at bytes before it sees that index.
    pub(crate) fn put(
        &self,
        memory: &dyn GuestMemory,
        page: Gpa,
        bytes: &[u8],
    ) -> Result<usize, RingError> {
        let prod = load(memory, page, self.prod)?;
        let cons = load(memory, page, self.cons)?;
        let room = self.size_bytes.saturating_sub(self.used(cons, prod)?);
        let count = len(room).min(bytes.len());
        let (before, after) = self.split(prod, count);
        let (head, rest) = bytes.split_at(before);
        memory.write(place(page, self.offset(prod))?, head)?;
        if let Some(tail) = rest.get(..after).filter(|tail| !tail.is_empty()) {
            memory.write(place(page, self.data)?, tail)?;
        }
        self.advance(memory, page, self.prod, (prod, count))?;
        Ok(count)
    }

    /// Makes the ring empty.
    pub(crate) fn clear(&self, memory: &dyn GuestMemory, page: Gpa) -> Result<(), RingError> {
        store(memory, page, self.cons, 0)?;
        store(memory, page, self.prod, 0)
    }

    /// How many bytes wait, or that it cannot be so many.
    fn used(&self, cons: u32, prod: u32) -> Result<u32, RingError> {
        let used = prod.wrapping_sub(cons);
        if used > self.size_bytes {
            let size_bytes = self.size_bytes;
            return Err(RingError::Inconsistent {
                cons,
                prod,
                size_bytes,
            });
        }
        Ok(used)
    }

    /// Splits `count` bytes from index `from` on into those before the wrap and those after it.
    fn split(&self, from: u32, count: usize) -> (usize, usize) {
        let to_end = self.size_bytes.saturating_sub(self.position(from));
        let before = count.min(len(to_end));
        (before, count.saturating_sub(before))
    }

    /// The place of a free-running index in the buffer.
    fn position(&self, index: u32) -> u32 {
        index & self.size_bytes.saturating_sub(1)
    }

    /// The place of a free-running index in the page.
    fn offset(&self, index: u32) -> u64 {
        self.data.saturating_add(u64::from(self.position(index)))
    }

    /// Moves an index on; an access that moved nothing leaves the page as it was.
    fn advance(
        &self,
        memory: &dyn GuestMemory,
        page: Gpa,
        at: u64,
        (from, count): (u32, usize),
    ) -> Result<(), RingError> {
        if count == 0 {
            return Ok(());
        }
        let count = u32::try_from(count).unwrap_or(self.size_bytes);
        store(memory, page, at, from.wrapping_add(count))
    }
}

/// Reads a word of the page.
pub(crate) fn load(memory: &dyn GuestMemory, page: Gpa, offset: u64) -> Result<u32, RingError> {
    Ok(memory.atomic_u32(place(page, offset)?, WordOp::Load)?)
}

/// Writes a word of the page; whatever was written or read before it is seen before it.
pub(crate) fn store(
    memory: &dyn GuestMemory,
    page: Gpa,
    offset: u64,
    value: u32,
) -> Result<(), RingError> {
    memory.atomic_u32(place(page, offset)?, WordOp::Swap(value))?;
    Ok(())
}

/// An address in the page.
fn place(page: Gpa, offset: u64) -> Result<Gpa, MemoryError> {
    page.checked_add(offset).ok_or(MemoryError::NotRam {
        at: page,
        len_bytes: offset,
    })
}

fn len(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
