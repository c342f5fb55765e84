//! A guest's memory: RAM from `base` on, for exactly as many bytes as there are.

use std::cell::RefCell;

use pvh_abi::Gpa;
use pvh_start_info::{Builder, Generation, ReadError, StartInfo, read, read_cmdline};

/// The address is not in RAM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotRam;

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) base: Gpa,
    pub(crate) bytes: Vec<u8>,
    /// How often each byte has been fetched.
    fetched: RefCell<Vec<u32>>,
}

impl Guest {
    pub(crate) fn new(base: Gpa, bytes: Vec<u8>) -> Self {
        let fetched = RefCell::new(vec![0; bytes.len()]);
        Self {
            base,
            bytes,
            fetched,
        }
    }

    /// RAM that holds the block and not a byte more.
    pub(crate) fn with(builder: &Builder<'_>, at: Gpa) -> Self {
        Self::new(at, build(builder, at))
    }

    pub(crate) fn fetch(&self, at: Gpa, buf: &mut [u8]) -> Result<(), NotRam> {
        let start = at.checked_offset_from(self.base).ok_or(NotRam)?;
        let start = usize::try_from(start).map_err(|_| NotRam)?;
        let end = start.checked_add(buf.len()).ok_or(NotRam)?;
        buf.copy_from_slice(self.bytes.get(start..end).ok_or(NotRam)?);
        for times in &mut self.fetched.borrow_mut()[start..end] {
            *times = times.saturating_add(1);
        }
        Ok(())
    }

    /// The most often that any one byte has been fetched.
    pub(crate) fn most_fetches_of_a_byte(&self) -> u32 {
        self.fetched.borrow().iter().copied().max().unwrap_or(0)
    }

    pub(crate) fn read(&self, generation: Generation) -> Result<StartInfo, ReadError<NotRam>> {
        read(generation, self.base, |at, buf| self.fetch(at, buf))
    }

    pub(crate) fn line(&self, at: Option<Gpa>) -> Option<Vec<u8>> {
        let mut buf = [0; 8192];
        let line = read_cmdline(at?, &mut buf, |at, buf| self.fetch(at, buf));
        Some(line.expect("a line that was just built").to_vec())
    }

    pub(crate) fn put_u32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..][..4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn put_u64(&mut self, offset: usize, value: u64) {
        self.bytes[offset..][..8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Builds into a buffer of exactly the promised size.
pub(crate) fn build(builder: &Builder<'_>, at: Gpa) -> Vec<u8> {
    let size = builder.size_bytes().expect("it can be built");
    let mut bytes = vec![0xa5; usize::try_from(size).expect("a small block")];
    assert_eq!(builder.write(at, &mut bytes), Ok(bytes.len()));
    bytes
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..][..4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..][..8].try_into().expect("eight bytes"))
}
