//! A guest memory that records its writes.

use std::{cell::RefCell, collections::BTreeMap};

use pvh_abi::{Gpa, GuestRange};
use pvh_loader::plan::Placement;
use pvh_memory::{GuestMemory, MemoryError, WordOp};

const PAGE: u64 = 4096;

/// What memory holds before anything is written: not zeros, so that zeroing shows.
pub(crate) const POISON: u8 = 0xA5;

/// Sparse guest memory that records every write and can be told to fail.
pub(crate) struct Recorder {
    ram: Vec<GuestRange>,
    /// Only pages that do not hold one value throughout.
    pages: RefCell<BTreeMap<u64, Page>>,
    writes: RefCell<Vec<GuestRange>>,
    /// The write of this number fails, counted from 0.
    pub(crate) fails_at: Option<usize>,
    /// Called before each write.
    pub(crate) before_write: Option<Box<dyn Fn()>>,
}

enum Page {
    All(u8),
    Bytes(Box<[u8; 4096]>),
}

impl Recorder {
    pub(crate) fn new(ram: &[GuestRange]) -> Self {
        Self {
            ram: ram.to_vec(),
            pages: RefCell::default(),
            writes: RefCell::default(),
            fails_at: None,
            before_write: None,
        }
    }

    /// The ranges that were written, in order of time.
    pub(crate) fn writes(&self) -> Vec<GuestRange> {
        self.writes.borrow().clone()
    }

    /// Every address that was written, as sorted ranges, touching ones joined.
    pub(crate) fn written(&self) -> Vec<GuestRange> {
        joined(self.writes())
    }

    pub(crate) fn bytes(&self, at: Gpa, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.read(at, &mut bytes).unwrap();
        bytes
    }

    /// The pieces of a range that lie in one page each: page number, offset in it, offset in the
    /// range.
    fn pieces(at: Gpa, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let here = at.0 + done as u64;
            let offset = usize::try_from(here % PAGE).unwrap();
            let step = (4096 - offset).min(len - done);
            let piece = (here / PAGE, offset, done..done + step);
            done += step;
            (step > 0).then_some(piece)
        })
    }

    fn refuse(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        if self.is_ram(at, len_bytes) {
            Ok(())
        } else {
            Err(MemoryError::NotRam { at, len_bytes })
        }
    }
}

impl GuestMemory for Recorder {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        let end = u128::from(at.0) + u128::from(len_bytes);
        len_bytes == 0
            || self.ram.iter().any(|ram| {
                let start = u128::from(ram.start.0);
                start <= u128::from(at.0) && end <= start + u128::from(ram.len_bytes)
            })
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.refuse(at, buf.len() as u64)?;
        let pages = self.pages.borrow();
        for (page, offset, piece) in Self::pieces(at, buf.len()) {
            let piece = &mut buf[piece];
            match pages.get(&page) {
                None => piece.fill(POISON),
                Some(Page::All(value)) => piece.fill(*value),
                Some(Page::Bytes(bytes)) => {
                    piece.copy_from_slice(&bytes[offset..offset + piece.len()]);
                }
            }
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.refuse(at, bytes.len() as u64)?;
        self.before_write.iter().for_each(|call| call());
        let mut writes = self.writes.borrow_mut();
        if self.fails_at == Some(writes.len()) {
            return Err(MemoryError::Backend { at });
        }
        writes.push(GuestRange::new(at, bytes.len() as u64));
        let mut pages = self.pages.borrow_mut();
        for (page, offset, piece) in Self::pieces(at, bytes.len()) {
            let piece = &bytes[piece];
            if piece == &[0; 4096][..] {
                pages.insert(page, Page::All(0));
                continue;
            }
            let entry = pages.entry(page).or_insert(Page::All(POISON));
            if let Page::All(value) = *entry {
                *entry = Page::Bytes(Box::new([value; 4096]));
            }
            if let Page::Bytes(kept) = entry {
                kept[offset..offset + piece.len()].copy_from_slice(piece);
            }
        }
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, _: WordOp<u32>) -> Result<u32, MemoryError> {
        panic!("a loader needs no atomic word at {at}");
    }

    fn atomic_u64(&self, at: Gpa, _: WordOp<u64>) -> Result<u64, MemoryError> {
        panic!("a loader needs no atomic word at {at}");
    }
}

/// Sorts ranges and joins those that touch; two that overlap are a failure.
pub(crate) fn joined(mut ranges: Vec<GuestRange>) -> Vec<GuestRange> {
    ranges.sort_unstable();
    let mut joined: Vec<GuestRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end() == Some(range.start) => last.len_bytes += range.len_bytes,
            Some(last) => {
                assert!(!last.overlaps(range), "{last} and {range} overlap");
                joined.push(range);
            }
            None => joined.push(range),
        }
    }
    joined
}

/// What a plan writes, sorted and joined.
pub(crate) fn planned(plan: &Placement) -> Vec<GuestRange> {
    joined(plan.writes.iter().map(|write| write.range).collect())
}
