//! The front end's half of a ring, as the guest's driver has it.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, VecMemory};

/// The size of a page in bytes.
pub(crate) const PAGE: u64 = 4096;

/// A front end. It writes byte by byte, so that it shares nothing with the code under test.
#[derive(Debug)]
pub(crate) struct Front<'a> {
    memory: &'a VecMemory,
    pages: Vec<Gpa>,
    slot_bytes: u64,
    slots: u32,
    req_prod: u32,
    published: u32,
    rsp_cons: u32,
}

impl<'a> Front<'a> {
    /// SHARED_RING_INIT and FRONT_RING_INIT.
    pub(crate) fn new(memory: &'a VecMemory, pages: &[Gpa], slot_bytes: u32) -> Self {
        let fitting = (pages.len() as u64 * PAGE - 64) / u64::from(slot_bytes);
        let mut slots = 1;
        while u64::from(slots) * 2 <= fitting {
            slots *= 2;
        }
        let front = Self {
            memory,
            pages: pages.to_vec(),
            slot_bytes: u64::from(slot_bytes),
            slots,
            req_prod: 0,
            published: 0,
            rsp_cons: 0,
        };
        for (offset, value) in [(0, 0), (4, 1), (8, 0), (12, 1)] {
            front.set_word(offset, value);
        }
        front
    }

    /// Begins with other indices than 0, as a ring that has run for long.
    pub(crate) fn start_at(&mut self, index: u32) {
        (self.req_prod, self.published, self.rsp_cons) = (index, index, index);
        let next = index.wrapping_add(1);
        for (offset, value) in [(0, index), (4, next), (8, index), (12, next)] {
            self.set_word(offset, value);
        }
    }

    /// How many slots hold a request without a response that was taken.
    pub(crate) fn in_flight(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Writes a request into the next slot.
    pub(crate) fn put(&mut self, request: &[u8]) {
        let base = self.slot(self.req_prod);
        for (offset, byte) in (base..).zip(request) {
            self.memory.write(self.at(offset), &[*byte]).unwrap();
        }
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// RING_PUSH_REQUESTS_AND_CHECK_NOTIFY.
    pub(crate) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.req_prod);
        self.set_word(0, new);
        self.published = new;
        new.wrapping_sub(self.word(4)) < new.wrapping_sub(old)
    }

    /// Takes the next response, as many bytes of it.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        if self.word(8) == self.rsp_cons {
            return None;
        }
        let base = self.slot(self.rsp_cons);
        let bytes = (base..).take(len).map(|offset| {
            let mut byte = [0];
            self.memory.read(self.at(offset), &mut byte).unwrap();
            byte[0]
        });
        let bytes = bytes.collect();
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Some(bytes)
    }

    fn slot(&self, index: u32) -> u64 {
        64 + u64::from(index % self.slots) * self.slot_bytes
    }

    fn at(&self, offset: u64) -> Gpa {
        let page = self.pages[usize::try_from(offset / PAGE).unwrap()];
        Gpa(page.0 + offset % PAGE)
    }

    fn word(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(self.at(offset), &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn set_word(&self, offset: u64, value: u32) {
        self.memory
            .write(self.at(offset), &value.to_le_bytes())
            .unwrap();
    }
}
