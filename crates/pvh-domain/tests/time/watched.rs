//! Memory that keeps a page's bytes before each access to a word of it, as a reader could see them.

use core::cell::RefCell;

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, VecMemory, WordOp};

pub(crate) const PAGE: u64 = 0x3000;

pub(crate) struct Watched {
    ram: VecMemory,
    seen: RefCell<Vec<Vec<u8>>>,
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self {
            ram: VecMemory::zeroed(&[(Gpa(0), 0x8000)]).unwrap(),
            seen: RefCell::default(),
        }
    }

    pub(crate) fn page(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        self.ram.read(Gpa(PAGE), &mut bytes).unwrap();
        bytes
    }

    /// What was seen since it was last asked, and the page as it is now.
    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        let mut seen = self.seen.take();
        seen.push(self.page());
        seen
    }
}

impl GuestMemory for Watched {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.ram.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.ram.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.ram.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.seen.borrow_mut().push(self.page());
        self.ram.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.ram.atomic_u64(at, op)
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
