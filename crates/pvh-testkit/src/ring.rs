//! The front end's half of a ring, as a guest's driver has it.
#![expect(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a model of a guest may stop a test"
)]

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;

/// The front end's half of a ring (xen/include/public/io/ring.h).
///
/// It shares no code with pvh-ring, which is tested with it.
///
/// # Panics
///
/// Each method panics if a page of the ring is not RAM.
#[derive(Clone, Debug)]
pub struct FrontRing {
    pages: Vec<Gpa>,
    slot_bytes: u64,
    slots: u32,
    req_prod: u32,
    published: u32,
    rsp_cons: u32,
}

impl FrontRing {
    /// Makes an empty ring in these pages: `SHARED_RING_INIT` and `FRONT_RING_INIT`.
    #[must_use]
    pub fn new(memory: &dyn GuestMemory, pages: &[Gpa], slot_bytes: u32) -> Self {
        let fitting = (pages.len() as u64 * PAGE - HEADER) / u64::from(slot_bytes);
        let mut slots = 1;
        while u64::from(slots) * 2 <= fitting {
            slots *= 2;
        }
        let mut ring = Self {
            pages: pages.to_vec(),
            slot_bytes: u64::from(slot_bytes),
            slots,
            req_prod: 0,
            published: 0,
            rsp_cons: 0,
        };
        ring.start_at(memory, 0);
        ring
    }

    /// Sets all indices to `index`, as in an empty ring that has run for long.
    pub fn start_at(&mut self, memory: &dyn GuestMemory, index: u32) {
        (self.req_prod, self.published, self.rsp_cons) = (index, index, index);
        let next = index.wrapping_add(1);
        for (offset, value) in [
            (REQ_PROD, index),
            (REQ_EVENT, next),
            (RSP_PROD, index),
            (RSP_EVENT, next),
        ] {
            self.write(memory, offset, &value.to_le_bytes());
        }
    }

    /// How many slots the ring has.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// How many requests have no response yet that was taken.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Writes a request into the next slot. The back end sees it after [`publish`](Self::publish).
    pub fn put(&mut self, memory: &dyn GuestMemory, request: &[u8]) {
        self.write(memory, self.slot_at(self.req_prod), request);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Shows the back end all requests so far, and tells whether it wants to be notified:
    /// `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`.
    pub fn publish(&mut self, memory: &dyn GuestMemory) -> bool {
        let (old, new) = (self.published, self.req_prod);
        self.claim(memory, new);
        self.published = new;
        let req_event = self.word(memory, REQ_EVENT);
        new.wrapping_sub(req_event) < new.wrapping_sub(old)
    }

    /// Writes any number as the index of requests, as a hostile front end does.
    pub fn claim(&self, memory: &dyn GuestMemory, req_prod: u32) {
        self.write(memory, REQ_PROD, &req_prod.to_le_bytes());
    }

    /// Takes the next response: the number of its slot, and its first `len` bytes.
    pub fn take(&mut self, memory: &dyn GuestMemory, len: usize) -> Option<(u32, Vec<u8>)> {
        if self.word(memory, RSP_PROD) == self.rsp_cons {
            return None;
        }
        let index = self.rsp_cons;
        self.rsp_cons = index.wrapping_add(1);
        let bytes = self.read(memory, self.slot_at(index), len);
        Some((index % self.slots, bytes))
    }

    /// Asks to be notified of the response after `responses` more, `rsp_event`.
    pub fn wait_for(&self, memory: &dyn GuestMemory, responses: u32) {
        let event = self.rsp_cons.wrapping_add(responses);
        self.write(memory, RSP_EVENT, &event.to_le_bytes());
    }

    /// The request of which the back end wants to be notified, `req_event`.
    #[must_use]
    pub fn wanted(&self, memory: &dyn GuestMemory) -> u32 {
        self.word(memory, REQ_EVENT)
    }

    /// The guest-physical address of a byte of the ring.
    #[must_use]
    pub fn at(&self, offset: u64) -> Gpa {
        let page = self.pages[usize::try_from(offset / PAGE).expect("a ring is small")];
        Gpa(page.0 + offset % PAGE)
    }

    /// The offset of the slot of an index.
    const fn slot_at(&self, index: u32) -> u64 {
        HEADER + (index % self.slots) as u64 * self.slot_bytes
    }

    fn word(&self, memory: &dyn GuestMemory, offset: u64) -> u32 {
        let bytes = self.read(memory, offset, 4);
        bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u32::from(*byte))
    }

    fn read(&self, memory: &dyn GuestMemory, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, part) in self.parts(offset, len) {
            let read = memory.read(at, &mut bytes[part]);
            read.expect("the ring is RAM");
        }
        bytes
    }

    fn write(&self, memory: &dyn GuestMemory, offset: u64, bytes: &[u8]) {
        for (at, part) in self.parts(offset, bytes.len()) {
            let written = memory.write(at, &bytes[part]);
            written.expect("the ring is RAM");
        }
    }

    /// Where each page has its part of `len` bytes: the address, and which of the bytes.
    fn parts(&self, offset: u64, len: usize) -> Vec<(Gpa, std::ops::Range<usize>)> {
        let mut parts = Vec::new();
        let mut done = 0;
        while done < len {
            let here = offset + done as u64;
            let room = usize::try_from(PAGE - here % PAGE).expect("a page is small");
            let end = len.min(done + room);
            parts.push((self.at(here), done..end));
            done = end;
        }
        parts
    }
}

/// The size of a page in bytes.
const PAGE: u64 = 4096;
/// The slots begin here.
const HEADER: u64 = 64;
const REQ_PROD: u64 = 0;
const REQ_EVENT: u64 = 4;
const RSP_PROD: u64 = 8;
const RSP_EVENT: u64 = 12;
