//! Guest memory that knows every byte that was written, and costs only what is touched.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use pvh_abi::Gpa;
use pvh_memory::{FrameError, FrameStep, Frames, GuestMemory, MemoryError, WordOp};

const PAGE: u64 = 4096;

/// RAM in ranges, filled with one byte; pages are made when they are first written.
///
/// It counts accesses, and remembers of each byte whether it was written.
#[derive(Debug)]
pub struct SparseMemory {
    ranges: Vec<(u64, u64)>,
    fill: u8,
    spare_frames: u64,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pages: BTreeMap<u64, Page>,
    reads: u64,
    writes: u64,
    /// Whole pages that are zero and were written as such.
    zeroed: BTreeMap<u64, u64>,
    /// Frames beside the ranges that have a page, and frames in them that have none.
    added: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8; 4096]>,
    written: Box<[u64; 64]>,
}

impl SparseMemory {
    /// Makes RAM of ranges (start, length in bytes) that do not wrap; every byte is `fill`.
    #[must_use]
    pub fn new(ranges: &[(u64, u64)], fill: u8) -> Self {
        let mut sorted: Vec<(u64, u64)> = ranges
            .iter()
            .filter(|(_, len)| *len > 0)
            .map(|&(start, len)| (start, start.saturating_add(len)))
            .collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in sorted {
            match joined.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => joined.push((start, end)),
            }
        }
        Self {
            ranges: joined,
            fill,
            spare_frames: 0,
            inner: RefCell::default(),
        }
    }

    /// Allows so many pages beside the ranges.
    #[must_use]
    pub const fn with_spare_frames(mut self, frames: u64) -> Self {
        self.spare_frames = frames;
        self
    }

    /// How many pages were added beside the ranges.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.inner.borrow().added.len() as u64
    }

    /// How many pages there are, of ranges that are made of whole ones.
    #[must_use]
    pub fn pages(&self) -> u64 {
        let ranges = self.ranges.iter().map(|(start, end)| (end - start) / PAGE);
        let inner = self.inner.borrow();
        let changed = inner.added.len() as u64;
        (ranges.sum::<u64>() + changed).saturating_sub(inner.removed.len() as u64)
    }

    fn is_in_range(&self, at: u64, end: u64) -> bool {
        let mut ranges = self.ranges.iter();
        ranges.any(|&(start, last)| start <= at && end <= last)
    }

    fn has_frame(&self, gfn: u64) -> bool {
        let inner = self.inner.borrow();
        let is_ram = self.is_in_range(gfn << 12, (gfn << 12).saturating_add(PAGE));
        inner.added.contains(&gfn) || is_ram && !inner.removed.contains(&gfn)
    }

    /// How many reads and how many writes there were.
    #[must_use]
    pub fn accesses(&self) -> (u64, u64) {
        let inner = self.inner.borrow();
        (inner.reads, inner.writes)
    }

    /// The written ranges, as first byte and byte after the last, joined and in order.
    #[must_use]
    pub fn written(&self) -> Vec<(u64, u64)> {
        let inner = self.inner.borrow();
        let mut ranges: Vec<(u64, u64)> = inner.zeroed.iter().map(|(a, b)| (*a, *b)).collect();
        for (&number, page) in &inner.pages {
            let base = number * PAGE;
            let is_written = |at: u64| {
                let word = page.written[usize::try_from(at / 64).unwrap_or(0)];
                word >> (at % 64) & 1 == 1
            };
            let mut at = 0;
            while at < PAGE {
                if at % 64 == 0 && page.written[usize::try_from(at / 64).unwrap_or(0)] == 0 {
                    at += 64;
                    continue;
                }
                let start = at;
                while at < PAGE && is_written(at) {
                    at += 1;
                }
                if at > start {
                    ranges.push((base + start, base + at));
                } else {
                    at += 1;
                }
            }
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => joined.push((start, end)),
            }
        }
        joined
    }

    /// Copies bytes out without being counted.
    ///
    /// # Panics
    ///
    /// If they are not RAM.
    #[must_use]
    pub fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let reads = self.inner.borrow().reads;
        let read = self.read(Gpa(at), &mut bytes);
        read.expect("a peek is into RAM");
        self.inner.borrow_mut().reads = reads;
        bytes
    }

    fn check(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        if self.is_ram(at, len_bytes) {
            return Ok(());
        }
        Err(MemoryError::NotRam { at, len_bytes })
    }

    fn copy_out(&self, at: u64, buf: &mut [u8]) {
        let inner = self.inner.borrow();
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            let offset = usize::try_from(here % PAGE).unwrap_or(0);
            let step = (4096 - offset).min(buf.len() - done);
            let target = &mut buf[done..done + step];
            match inner.pages.get(&(here / PAGE)) {
                Some(page) => target.copy_from_slice(&page.bytes[offset..offset + step]),
                None if inner.is_zeroed(here) => target.fill(0),
                None => target.fill(self.fill),
            }
            done += step;
        }
    }

    fn copy_in(&self, at: u64, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let offset = usize::try_from(here % PAGE).unwrap_or(0);
            let step = (4096 - offset).min(bytes.len() - done);
            let fill = if inner.is_zeroed(here) { 0 } else { self.fill };
            let page = inner.pages.entry(here / PAGE).or_insert_with(|| Page {
                bytes: Box::new([fill; 4096]),
                written: Box::new([0; 64]),
            });
            page.bytes[offset..offset + step].copy_from_slice(&bytes[done..done + step]);
            for at in offset..offset + step {
                page.written[at / 64] |= 1 << (at % 64);
            }
            done += step;
        }
    }
}

impl Inner {
    fn is_unchanged(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn is_zeroed(&self, at: u64) -> bool {
        let below = self.zeroed.range(..=at).next_back();
        below.is_some_and(|(_, &end)| at < end)
    }
}

impl GuestMemory for SparseMemory {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        if len_bytes == 0 {
            return true;
        }
        let Some(end) = at.0.checked_add(len_bytes) else {
            return false;
        };
        if self.inner.borrow().is_unchanged() {
            return self.is_in_range(at.0, end);
        }
        len_bytes <= 1 << 20 && (at.0 / PAGE..=(end - 1) / PAGE).all(|gfn| self.has_frame(gfn))
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.check(at, buf.len() as u64)?;
        self.inner.borrow_mut().reads += 1;
        self.copy_out(at.0, buf);
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.check(at, bytes.len() as u64)?;
        self.inner.borrow_mut().writes += 1;
        self.copy_in(at.0, bytes);
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        if !at.is_aligned(4) {
            return Err(MemoryError::Misaligned { at, size_bytes: 4 });
        }
        self.check(at, 4)?;
        let mut bytes = [0; 4];
        self.copy_out(at.0, &mut bytes);
        let before = u32::from_le_bytes(bytes);
        self.inner.borrow_mut().reads += 1;
        if let Some(after) = op.apply(before) {
            self.inner.borrow_mut().writes += 1;
            self.copy_in(at.0, &after.to_le_bytes());
        }
        Ok(before)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        if !at.is_aligned(8) {
            return Err(MemoryError::Misaligned { at, size_bytes: 8 });
        }
        self.check(at, 8)?;
        let mut bytes = [0; 8];
        self.copy_out(at.0, &mut bytes);
        let before = u64::from_le_bytes(bytes);
        self.inner.borrow_mut().reads += 1;
        if let Some(after) = op.apply(before) {
            self.inner.borrow_mut().writes += 1;
            self.copy_in(at.0, &after.to_le_bytes());
        }
        Ok(before)
    }

    /// Whole pages that nobody has written yet are noted, not made.
    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        self.check(at, len_bytes)?;
        self.inner.borrow_mut().writes += 1;
        let end = at.0 + len_bytes;
        let first = at.0.next_multiple_of(PAGE).min(end);
        let last = (end - end % PAGE).max(first);
        let is_fresh = {
            let inner = self.inner.borrow();
            let mut pages = inner.pages.range(first / PAGE..last / PAGE);
            pages.next().is_none()
        };
        if !is_fresh || first == last {
            let zeros = vec![0; usize::try_from(len_bytes).unwrap_or(usize::MAX)];
            self.copy_in(at.0, &zeros);
            return Ok(());
        }
        let len = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(0);
        self.copy_in(at.0, &vec![0; len(at.0, first)]);
        self.copy_in(last, &vec![0; len(last, end)]);
        self.inner.borrow_mut().zeroed.insert(first, last);
        Ok(())
    }
}

impl Frames for SparseMemory {
    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        if gfns.end > 1 << 40 {
            return Err(FrameError::OutOfReach { gfn: gfns.start });
        }
        let missing = gfns.filter(|&gfn| !self.has_frame(gfn));
        let inner = self.inner.borrow();
        let beside = missing.filter(|gfn| !inner.removed.contains(gfn));
        let limit = self.spare_frames;
        let room = limit.saturating_sub(inner.added.len() as u64);
        if beside.count() as u64 > room {
            return Err(FrameError::Exhausted { limit });
        }
        Ok(())
    }

    /// A frame beside the ranges is one step, as it is where each takes a memory slot.
    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        let is_range = |gfn: u64| {
            let at = gfn.checked_mul(PAGE);
            at.is_some_and(|at| self.is_in_range(at, at.saturating_add(PAGE)))
        };
        let takes_slot = !is_range(gfns.start);
        let most = if takes_slot { 1 } else { u64::MAX };
        let frames = gfns.take_while(|&gfn| takes_slot || is_range(gfn));
        FrameStep {
            frames: (frames.take(512).count() as u64).min(most),
            takes_slot,
        }
    }

    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let count = gfns.end.saturating_sub(gfns.start);
        if gfns.end > 1 << 40 {
            return Err(FrameError::OutOfReach { gfn: gfns.start });
        }
        if count > self.spare_frames + self.inner.borrow().removed.len() as u64 {
            return Err(FrameError::Exhausted {
                limit: self.spare_frames,
            });
        }
        if let Some(gfn) = gfns.clone().find(|&gfn| self.has_frame(gfn)) {
            return Err(FrameError::Present { gfn });
        }
        let mut inner = self.inner.borrow_mut();
        let beside = gfns.clone().filter(|gfn| !inner.removed.contains(gfn));
        if inner.added.len() as u64 + beside.count() as u64 > self.spare_frames {
            return Err(FrameError::Exhausted {
                limit: self.spare_frames,
            });
        }
        for gfn in gfns {
            if !inner.removed.remove(&gfn) {
                inner.added.insert(gfn);
            }
            let page = Page {
                bytes: Box::new([0; 4096]),
                written: Box::new([u64::MAX; 64]),
            };
            inner.pages.insert(gfn, page);
        }
        Ok(())
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        if let Some(gfn) = gfns.clone().find(|&gfn| !self.has_frame(gfn)) {
            return Err(FrameError::Absent { gfn });
        }
        let mut inner = self.inner.borrow_mut();
        for gfn in gfns {
            if !inner.added.remove(&gfn) {
                inner.removed.insert(gfn);
            }
            inner.pages.remove(&gfn);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_byte_is_known_and_no_other() {
        let memory = SparseMemory::new(&[(0x1000, 0x10_0000)], 0xa5);
        memory.write(Gpa(0x1ffe), &[1, 2, 3]).unwrap();
        memory.zero(Gpa(0x4004), 0x3000).unwrap();
        assert_eq!(memory.written(), [(0x1ffe, 0x2001), (0x4004, 0x7004)]);
        assert_eq!(memory.peek(0x1ffd, 5), [0xa5, 1, 2, 3, 0xa5]);
        assert_eq!(memory.peek(0x4003, 2), [0xa5, 0]);
        assert_eq!(memory.peek(0x5000, 1), [0]);
        assert_eq!(memory.peek(0x7003, 2), [0, 0xa5]);
    }

    #[test]
    fn what_is_not_ram_is_refused_whole() {
        let memory = SparseMemory::new(&[(0x1000, 0x1000), (0x2000, 8)], 0);
        assert!(memory.write(Gpa(0x2000), &[0; 9]).is_err());
        assert!(memory.write(Gpa(0x1fff), &[0; 9]).is_ok());
        assert!(memory.atomic_u64(Gpa(0x1004), WordOp::Load).is_err());
        assert_eq!(memory.accesses(), (0, 1));
    }
}
