//! What a back end may do with its ring, read back from the record of its accesses.

use std::collections::VecDeque;

use pvh_abi::Gpa;
use pvh_ring::RingError;
use pvh_testkit::racing::Seen;

pub(super) mod blkif;
pub(super) mod keys;
pub(super) mod netif;
pub(super) mod xenbus;

const PAGE: u64 = 4096;

/// The accesses of one call. Each method takes the next one, and panics if it is another.
struct Record(VecDeque<Seen>);

/// A ring by a second reading of io/ring.h: which slot is next, and what the indices allow.
struct Ring {
    pages: Vec<u64>,
    slot_bytes: u64,
    slots: u32,
    req_cons: u32,
    rsp_prod: u32,
    published: u32,
}

impl Record {
    fn new(seen: Vec<Seen>) -> Self {
        Self(seen.into())
    }

    fn next(&mut self) -> Seen {
        self.0.pop_front().expect("an access is missing")
    }

    /// The value of a word, and what was written into it.
    fn word(&mut self, wanted: u64) -> (u32, Option<u32>) {
        match self.next() {
            Seen::Word { at, found, written } if at == Gpa(wanted) => (found, written),
            other => panic!("{other:x?} instead of the word at {wanted:#x}"),
        }
    }

    fn read(&mut self, wanted: u64, len: usize) -> Vec<u8> {
        match self.next() {
            Seen::Read { at, bytes } if at == Gpa(wanted) && bytes.len() == len => bytes,
            other => panic!("{other:x?} instead of a read of {len} bytes at {wanted:#x}"),
        }
    }

    /// The bytes that were written, and how many pages were in use then.
    fn write(&mut self, wanted: u64, len: usize) -> (Vec<u8>, usize) {
        match self.next() {
            Seen::Write { at, bytes, in_use } if at == Gpa(wanted) && bytes.len() == len => {
                (bytes, in_use)
            }
            other => panic!("{other:x?} instead of a write of {len} bytes at {wanted:#x}"),
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "more accesses: {:x?}", self.0);
    }
}

impl Ring {
    /// A ring in which all indices are `index`.
    fn new(pages: &[u64], slot_bytes: u32, index: u32) -> Self {
        let room = pages.len() as u64 * PAGE - 64;
        let fitting = room / u64::from(slot_bytes);
        let slots = (0..16_u32).map(|log| 1 << log);
        let slots = slots.filter(|slots| u64::from(*slots) <= fitting).max();
        Self {
            pages: pages.to_vec(),
            slot_bytes: slot_bytes.into(),
            slots: slots.expect("a page has a slot"),
            req_cons: index,
            rsp_prod: index,
            published: index,
        }
    }

    const fn unanswered(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// How many requests wait, by the front end's index as it was read.
    ///
    /// Only indices from that of the next request to that of the last free slot are possible.
    fn count(&self, record: &mut Record) -> Result<u32, RingError> {
        let (req_prod, written) = record.word(self.pages[0]);
        assert_eq!(written, None, "the front end's index was written");
        let waiting = req_prod.wrapping_sub(self.req_cons);
        if waiting <= self.slots - self.unanswered() {
            return Ok(waiting);
        }
        Err(RingError::Overflow {
            req_prod,
            rsp_prod: self.rsp_prod,
            slots: self.slots,
        })
    }

    /// Asks for a notification of the `count`th request from now on unless so many wait.
    fn wait(&self, record: &mut Record, count: u32) -> Result<bool, RingError> {
        if self.count(record)? >= count {
            return Ok(true);
        }
        let (_, written) = record.word(self.pages[0] + 4);
        assert_eq!(written, Some(self.req_cons.wrapping_add(count)));
        Ok(self.count(record)? >= count)
    }

    /// The bytes of the next request; `None` if none waits.
    fn take(&mut self, record: &mut Record) -> Result<Option<Vec<u8>>, RingError> {
        if self.count(record)? == 0 {
            return Ok(None);
        }
        Ok(Some(self.take_counted(record)))
    }

    fn take_counted(&mut self, record: &mut Record) -> Vec<u8> {
        let parts = self.parts(self.req_cons, self.slot_bytes);
        self.req_cons = self.req_cons.wrapping_add(1);
        let bytes = parts.into_iter().map(|(at, len)| record.read(at, len));
        bytes.collect::<Vec<_>>().concat()
    }

    /// The next response, which is to be these bytes; returns how many pages were in use then.
    fn put(&mut self, record: &mut Record, wanted: &[u8]) -> usize {
        assert!(self.unanswered() > 0, "a response without a request");
        let parts = self.parts(self.rsp_prod, wanted.len() as u64);
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        let mut in_use = 0;
        let mut bytes = Vec::new();
        for (at, len) in parts {
            let (part, now) = record.write(at, len);
            bytes.extend(part);
            in_use = now;
        }
        assert_eq!(bytes, wanted, "the response");
        in_use
    }

    /// Whether the front end is to be notified of what is published.
    fn publish(&mut self, record: &mut Record) -> bool {
        let new = self.rsp_prod.wrapping_sub(self.published);
        if new == 0 {
            return false;
        }
        let (_, written) = record.word(self.pages[0] + 8);
        assert_eq!(written, Some(self.rsp_prod));
        let (rsp_event, written) = record.word(self.pages[0] + 12);
        assert_eq!(written, None);
        // The front end waits for the response before this index, counted from 1.
        let is_among = (1..=new).any(|nth| self.published.wrapping_add(nth) == rsp_event);
        self.published = self.rsp_prod;
        is_among
    }

    /// Where the first `len` bytes of a slot are: one part, or two in two pages.
    fn parts(&self, index: u32, len: u64) -> Vec<(u64, usize)> {
        let start = 64 + u64::from(index % self.slots) * self.slot_bytes;
        let here = len.min(PAGE - start % PAGE);
        let at = |offset: u64| self.pages[size(offset / PAGE)] + offset % PAGE;
        let mut parts = vec![(at(start), size(here))];
        if here < len {
            parts.push((at(start + here), size(len - here)));
        }
        parts
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}
